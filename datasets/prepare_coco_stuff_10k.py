#!/usr/bin/env python
"""Make the label maps of COCO-Stuff 10k from its Matlab files."""

from mask2former.data.preparation.coco import STUFF_SPLITS, prepare_stuff_10k
from mask2former.data.preparation.common import run

if __name__ == "__main__":
    run(__doc__, prepare_stuff_10k, STUFF_SPLITS)
