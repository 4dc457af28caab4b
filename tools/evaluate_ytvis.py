#!/usr/bin/env python3
"""Score video instance results in YouTube-VIS form by average precision, or by HOTA and IDF1."""

import argparse

from mask2former.errors import one_line
from mask2former.evaluation import evaluate_ytvis, results_table, track_quality


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gt-json-file", required=True, help="YouTube-VIS json with annotations")
    parser.add_argument("--results-json-file", required=True)
    parser.add_argument("--per-class", action="store_true", help="list the AP of each class too")
    parser.add_argument("--tracks", action="store_true", help="HOTA and IDF1, by TrackEval")
    parser.add_argument(
        "--score-threshold", type=float, default=0.5, help="with --tracks: minimum score of a track"
    )
    args = parser.parse_args()
    files = (args.gt_json_file, args.results_json_file)
    with one_line(parser.prog):
        scores = (
            track_quality(*files, args.score_threshold) if args.tracks else evaluate_ytvis(*files)
        )
    print(results_table({"segm": scores}, args.per_class))


if __name__ == "__main__":
    main()
