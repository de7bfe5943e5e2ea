"""Command lines: one line and exit status 2 for an error, suggestions, types of arguments."""

import argparse
import difflib
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn


class OneLineParser(argparse.ArgumentParser):
    """Print an error in one line, if possible with a suggestion, and exit with 2."""

    def parse_known_args(  # type: ignore[override]  # two overloads in typeshed
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Raise on the first unknown option, before any value is parsed."""
        options = self._option_string_actions
        for word in sys.argv[1:] if args is None else args:
            if word == "--":
                break
            name = word.partition("=")[0]
            attached = word[:2] in options and re.match("[-+.0-9]", word[2:])  # -b64
            if re.match("--?[a-zA-Z]", word) and name not in options and not attached:
                self.error(f"unrecognized arguments: {name}{suggestion(name, options)}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Overrides."""
        if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            message += suggestion(found[1], re.findall(r"[^\s,']+", found[2]))
        print(one_line(self.prog, message), file=sys.stderr)
        raise SystemExit(2)


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown word: the known word that is most like it, if any is."""
    spellings = {name.lower(): name for name in known}
    similar = difflib.get_close_matches(word.lower(), spellings, n=1)
    return f"; did you mean {spellings[similar[0]]}?" if similar else ""


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
