"""How the program that trains ends: what signals ask for, one line on stderr, the exit status.

The statuses: 0 the work is done; 2 the command line, a file or the numbers are wrong; 75 something
passing, a full disk or another process that was lost; 130 Ctrl-C; 143 SIGTERM; 141 nobody reads the
output any more.
"""

import contextlib
import errno
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import jax

from jaxsnn.experiment._checkpoints import CheckpointWriteError
from jaxsnn.experiment.devices import LostProcessError

WRONG, PASSING, INTERRUPTED, TERMINATED, NO_READER = 2, 75, 130, 143, 141

# Errors of the disk that pass when it is seen to.
_NO_ROOM = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO
_SIGNALS = {signal.SIGINT: ("interrupted", INTERRUPTED), signal.SIGTERM: ("SIGTERM", TERMINATED)}


class Stopped(Exception):
    """The work has ended early, as it was told to, and all up to there has been saved.

    Args:
        told: the numbers of the signals that came; none if it was another process that was told.
        what: what has been saved.
    """

    def __init__(self, told: list[int], what: str) -> None:
        super().__init__(what)
        self.by, self.status = _SIGNALS[signal.Signals(told[0]) if told else signal.SIGTERM]


@contextlib.contextmanager
def told_to_stop() -> Iterator[list[int]]:
    """Notes Ctrl-C, and SIGTERM, which schedulers send some time before they kill.

    Neither ends the program; but of two times Ctrl-C the second does, at once.
    """
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def in_one_line(program: str, *, distributed: bool) -> Iterator[None]:
    """Turns what can be expected to go wrong into one line and an exit status.

    Args:
        program: how the line begins.
        distributed: whether other processes take part, which may be lost.
    """
    try:
        yield
    except Stopped as stopped:
        print(f"{program}: {stopped.by}: {stopped}; --resume goes on", file=sys.stderr)
        raise SystemExit(stopped.status) from None
    except KeyboardInterrupt:  # the second time, or while evaluating
        print(f"{program}: interrupted; --resume goes on from what was saved", file=sys.stderr)
        _leave(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _leave(NO_READER)
    except CheckpointWriteError as error:
        # Orbax writes many at once, and asyncio prints a traceback for each other that failed.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        before = "Those of before are still there; --resume goes on from them"
        _fail(program, f"{error}. {before}", PASSING)
    except (ValueError, OSError, ImportError) as error:
        passing = isinstance(error, OSError) and error.errno in _NO_ROOM
        _fail(program, str(error), PASSING if passing else WRONG)
    except (LostProcessError, jax.errors.JaxRuntimeError) as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            no_room = f"the device has no room for this ({error}); choose a smaller --batch-size"
            _fail(program, no_room, WRONG)
        if not distributed:
            raise
        lost = f"another process was lost ({error}); start all again with --resume"
        _fail(program, lost, PASSING)
    except Exception:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        _leave(1)


def one_line(program: str, message: str) -> str:
    """An error as it is printed, whatever line breaks are in it."""
    return f"{program}: error: {' '.join(message.split())}"


def _fail(program: str, message: str, status: int) -> NoReturn:
    print(one_line(program, message), file=sys.stderr, flush=True)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Exits. One of several processes does it at once: its end tells the others to end, too."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        if jax.process_index() == 0:
            time.sleep(1)  # its end would cut the others short, which may be saying the same
        os._exit(status)
    raise SystemExit(status) from None
