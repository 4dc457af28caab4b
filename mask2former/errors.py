"""Errors that users can put right, and how scripts show them: in one line, without a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Something that a user can put right; says what was expected, what came and what to do.

    All other errors, a plain ValueError among them, are faults of a program.
    """


class MissingPackageError(UserError, ImportError):
    """A package is not installed, or too old; the message says how to get it."""


class UnsupportedError(UserError, NotImplementedError):
    """What is asked for does not exist for this model or dataset; the message says what does."""


SHOWN = (UserError, OSError)  # by scripts in one line


def message(error: BaseException) -> str:
    """Return what an error says, without the traceback of a data loader's worker."""
    text = str(error).strip()
    if "Original Traceback" in text:
        text = text.rpartition(f"{type(error).__name__}: ")[2]
    return text


@contextmanager
def one_line(program: str, status: int = 1) -> Iterator[None]:
    """End the script with one line where the block raises what a user can put right.

    MASK2FORMER_DEBUG in the environment shows where in the code it came up.

    Args:
        program: what the line begins with.
        status: exit status.
    """
    try:
        yield
    except SHOWN as error:
        if os.environ.get("MASK2FORMER_DEBUG"):
            raise
        print(f"{program}: error: {message(error)}", file=sys.stderr)
        sys.exit(status)
