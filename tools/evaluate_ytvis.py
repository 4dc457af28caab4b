#!/usr/bin/env python3
"""Score video instance results in YouTube-VIS form by average precision."""

from __future__ import annotations

import argparse

from mask2former.evaluation import evaluate_ytvis, results_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gt-json-file", required=True, help="YouTube-VIS json with annotations")
    parser.add_argument("--results-json-file", required=True)
    parser.add_argument("--per-class", action="store_true", help="list the AP of each class too")
    args = parser.parse_args()
    try:
        scores = evaluate_ytvis(args.gt_json_file, args.results_json_file)
    except (FileNotFoundError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(results_table({"segm": scores}, args.per_class))


if __name__ == "__main__":
    main()
