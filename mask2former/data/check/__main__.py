"""Run the check from the command line."""

import io
import sys

from ...errors import interruptible
from .command import main

if isinstance(sys.stdout, io.TextIOWrapper):  # names need not fit the encoding of the screen
    sys.stdout.reconfigure(errors="backslashreplace")
with interruptible("mask2former.data.check"):
    sys.exit(main())
