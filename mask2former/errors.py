"""Errors that users can put right, and how scripts show them: in one line, without a traceback."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class UserError(ValueError):
    """Something that a user can put right; says what was expected, what came and what to do.

    All other errors, a plain ValueError among them, are faults of a program.
    """


class MissingPackageError(UserError, ImportError):
    """A package is not installed, or too old; the message says how to get it."""


class UnsupportedError(UserError, NotImplementedError):
    """What is asked for does not exist for this model or dataset; the message says what does."""


SHOWN = (UserError, OSError)  # by scripts in one line
GOES_ON = "interrupted; the same command goes on from here"
_STATUS = 128  # of a script that a signal ended, and the number of the signal


def message(error: BaseException) -> str:
    """Return what an error says, without the traceback of a data loader's worker."""
    text = str(error).strip()
    if "Original Traceback" in text:
        text = text.rpartition(f"{type(error).__name__}: ")[2]
    return text


@contextmanager
def one_line(program: str, status: int = 1, interrupted: str = "interrupted") -> Iterator[None]:
    """End the script with one line where the block raises what a user can put right.

    MASK2FORMER_DEBUG in the environment shows where in the code it came up.

    Args:
        program: what the line begins with.
        status: exit status.
        interrupted: see `interruptible`.
    """
    with interruptible(program, interrupted):
        try:
            yield
        except SHOWN as error:
            if os.environ.get("MASK2FORMER_DEBUG"):
                raise
            print(f"{program}: error: {message(error)}", file=sys.stderr)
            sys.exit(status)


@contextmanager
def interruptible(program: str, interrupted: str = "interrupted") -> Iterator[None]:
    """End the script with one line and status 130 after Ctrl-C, or 143 after SIGTERM.

    Before that, the block cleans up after itself. Another handler of SIGTERM stays where it is set.

    Args:
        program: what the line begins with.
        interrupted: what it says then, such as how to go on.
    """
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    ended: list[int] = []

    def terminate(number: int, frame: FrameType | None) -> None:
        ended.append(_STATUS + number)
        sys.exit(ended[-1])

    if is_ours:
        signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{program}: {interrupted}", file=sys.stderr)
        sys.exit(_STATUS + signal.SIGINT)
    except Exception:
        if ended:  # libraries in C turn the exit into errors of theirs
            sys.exit(ended[-1])
        raise
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
