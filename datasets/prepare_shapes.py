#!/usr/bin/env python
"""Draws the shapes data set, on which a small model can be trained in minutes on a CPU."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from mask2former.data.synthetic.images import write_shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    root = os.environ.get("DETECTRON2_DATASETS", "datasets")
    parser.add_argument("--output", type=Path, default=root, help="shapes/ is made in this folder")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes")
    parser.add_argument("--train", type=int, default=2000, help="training images")
    parser.add_argument("--val", type=int, default=200, help="validation images")
    parser.add_argument("--size", type=int, default=128, help="side of an image, pixels")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    arguments = vars(parser.parse_args())
    try:
        made = write_shapes(**arguments)
    except (ValueError, FileExistsError) as error:
        raise SystemExit(f"prepare_shapes.py: {error}") from None
    print(f"{arguments['output'] / 'shapes'}: {'drawn' if made else 'there already'}")


if __name__ == "__main__":
    main()
