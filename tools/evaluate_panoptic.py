#!/usr/bin/env python3
"""Score panoptic results in COCO's format (json and a folder of PNGs) by panoptic quality."""

import argparse

from mask2former.errors import one_line
from mask2former.evaluation import pq_compute, quality_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gt-json-file", required=True)
    parser.add_argument("--pred-json-file", required=True)
    parser.add_argument("--gt-folder", help="PNGs; default: the path of the json without .json")
    parser.add_argument("--pred-folder", help="PNGs; default: the path of the json without .json")
    parser.add_argument("--num-workers", type=int, help="processes; default: all cores")
    args = parser.parse_args()
    with one_line(parser.prog):
        quality = pq_compute(
            args.gt_json_file,
            args.pred_json_file,
            args.gt_folder,
            args.pred_folder,
            args.num_workers,
        )
    print(quality_table(quality))


if __name__ == "__main__":
    main()
