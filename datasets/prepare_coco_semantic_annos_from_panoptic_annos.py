#!/usr/bin/env python
"""Make label maps of all 133 classes of COCO from its panoptic annotations."""

from mask2former.data.preparation.coco import prepare_semantic
from mask2former.data.preparation.common import run

if __name__ == "__main__":
    run(__doc__, prepare_semantic)
