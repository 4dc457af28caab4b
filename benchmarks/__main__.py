"""Measure all topics, or those that are named: `python -m benchmarks [TOPIC ...]`."""

import argparse
import time
from pathlib import Path

# isort: off
import mask2former  # noqa: F401 (before torch is loaded, as in all scripts)

# isort: on
from .models import OUTPUT
from .report import HEAD, line_of, machine, save
from .timing import Row
from .topics import BY_NAME_ONLY, TOPICS, measure_apart


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = (*TOPICS, *BY_NAME_ONLY)
    text = f"of {', '.join(known)}; all but {', '.join(BY_NAME_ONLY)} by default"
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=text)
    parser.add_argument("--quick", action="store_true", help="smaller inputs, fewer cases")
    parser.add_argument("--rounds", type=int, help="pairs of each comparison (3; quick: 2)")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of table and plot")
    args = parser.parse_args()
    unknown = set(args.topics) - set(known)
    if unknown:
        parser.error(f"unknown topics {sorted(unknown)}; there are {', '.join(known)}")
    return args


def main() -> None:
    """Measure, print each row when there is one, and save the table."""
    args = parse()
    rounds = args.rounds or (2 if args.quick else 3)
    print(f"machine: {machine()}", flush=True)
    rows: list[Row] = []
    for topic in args.topics or TOPICS:
        start = time.perf_counter()
        print(f"\n{topic}\n{HEAD}", flush=True)
        for row in measure_apart(topic, rounds, args.quick):
            rows.append(row)
            print(line_of(row), flush=True)
        print(f"{topic}: {time.perf_counter() - start:.0f} s", flush=True)
        paths = save(rows, args.output)
    print("\nwritten: " + ", ".join(map(str, paths)))


if __name__ == "__main__":
    main()
