#!/usr/bin/env python3
"""Score semantic segmentation by panoptic quality: every class of an image counts as one segment.

Reads the sem_seg_predictions.json that evaluation writes into its output folder.
"""

import argparse

from mask2former.data.datasets.common import require_registered
from mask2former.errors import one_line
from mask2former.evaluation import quality_table, results_table, semantic_pq


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset-name", required=True, help="such as ade20k_sem_seg_val")
    parser.add_argument("--json-file", required=True, help="sem_seg_predictions.json")
    args = parser.parse_args()
    with one_line(parser.prog):
        require_registered(args.dataset_name)
        quality, scores = semantic_pq(args.dataset_name, args.json_file)
    print(quality_table(quality))
    print(results_table({"sem_seg": scores}))


if __name__ == "__main__":
    main()
