"""What command lines share: one line for what is wrong, exit status 2, and types of arguments."""

import argparse
import math
import sys
from collections.abc import Callable
from typing import NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line and exits with 2."""

    def error(self, message: str) -> NoReturn:
        """Overrides."""
        print(one_line(self.prog, message), file=sys.stderr)
        raise SystemExit(2)


def one_line(program: str, message: str) -> str:
    """An error as it is printed, whatever line breaks are in it."""
    return f"{program}: error: {' '.join(message.split())}"


def integer(least: int, most: int | None = None) -> Callable[[str], int]:
    """An argument type: an integer of at least `least` and at most `most`."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be an integer, got {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, got {value}")
        return value

    return convert


def integer_or_all(text: str) -> int | str:
    """An argument type: an integer of at least 1, or `all`."""
    return "all" if text == "all" else integer(1)(text)


def number(least: float, below: float = math.inf) -> Callable[[str], float]:
    """An argument type: a finite number in `[least, below)`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None
        if not (math.isfinite(value) and least <= value < below):
            limit = f"at least {least}" + (f" and below {below}" if below < math.inf else "")
            raise argparse.ArgumentTypeError(f"must be finite, {limit}, got {text}")
        return value

    return convert
