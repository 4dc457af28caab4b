"""Write the report of a training, or one that compares several.

    python -m mask2former.engine.report output/run            output/run/report.html
    python -m mask2former.engine.report output/* --output all.html

The folders are the OUTPUT_DIR of runs, also of runs that go on, were interrupted, or were trained
before there were reports.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from ...errors import one_line
from .writing import COMPARISON, REPORT, write_report


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m mask2former.engine.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", type=Path, help="OUTPUT_DIR of a run")
    name = f"{REPORT} in DIR; {COMPARISON} here for several"
    parser.add_argument("--output", type=Path, help=f"the page to write, by default {name}")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    with one_line("mask2former.engine.report"):
        print(write_report(args.folders, args.output))
