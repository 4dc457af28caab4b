#!/usr/bin/env python3
"""Score COCO instance results by boundary AP (Cheng et al., CVPR 2021), or by plain AP."""

import argparse

from mask2former.errors import one_line
from mask2former.evaluation import coco_average_precision, results_table
from mask2former.formats.json_files import read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gt-json-file", required=True, help="COCO instance json")
    parser.add_argument("--dt-json-file", required=True, help="results, in COCO's form")
    parser.add_argument("--iou-type", default="boundary", choices=("boundary", "segm", "bbox"))
    parser.add_argument(
        "--dilation-ratio", type=float, default=0.02, help="boundary width / image diagonal"
    )
    parser.add_argument("--per-class", action="store_true", help="list the AP of each class too")
    args = parser.parse_args()
    with one_line(parser.prog):
        scores = coco_average_precision(
            read_json(args.gt_json_file),
            read_json(args.dt_json_file),
            args.iou_type,
            dilation_ratio=args.dilation_ratio,
        )
    print(results_table({args.iou_type: scores}, args.per_class))


if __name__ == "__main__":
    main()
