#!/usr/bin/env python
"""Makes label maps of all 133 classes of COCO from its panoptic annotations."""

from mask2former.data.preparation.coco import SPLITS, prepare_semantic
from mask2former.data.preparation.script import run

if __name__ == "__main__":
    run(__doc__, SPLITS, prepare_semantic)
