"""Measure everything, or the topics that are named: `python -m benchmarks [TOPIC ...]`."""

import argparse
import time
from pathlib import Path

# isort: off
import mask2former  # noqa: F401 (before torch is loaded, as in all scripts)

# isort: on
from .models import OUTPUT
from .report import machine, save, table
from .timing import Row
from .topics import TOPICS, measure_apart


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)}")
    parser.add_argument("--quick", action="store_true", help="smaller inputs, 3 minutes")
    parser.add_argument("--rounds", type=int, help="pairs of each comparison (5; quick: 3)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of table and plot")
    args = parser.parse_args()
    unknown = set(args.topics) - set(TOPICS)
    if unknown:
        parser.error(f"unknown topics {sorted(unknown)}; there are {', '.join(TOPICS)}")
    return args


def main() -> None:
    """Measure, print the table as it grows, and save it."""
    args = parse()
    rounds = args.rounds or (3 if args.quick else 5)
    print(f"machine: {machine()}", flush=True)
    rows: list[Row] = []
    for topic in args.topics or TOPICS:
        start = time.perf_counter()
        new = measure_apart(topic, rounds, args.quick)
        rows += new
        print(f"\n{topic}, {time.perf_counter() - start:.0f} s\n{table(new)}", flush=True)
        paths = save(rows, args.output)
    print("\nwritten: " + ", ".join(map(str, paths)))


if __name__ == "__main__":
    main()
