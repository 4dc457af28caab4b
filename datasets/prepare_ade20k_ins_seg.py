#!/usr/bin/env python
"""Makes the instance annotations of ADE20K, in COCO's form, from its instance maps."""

from mask2former.data.preparation.ade20k import SPLITS, prepare_instances
from mask2former.data.preparation.script import run

if __name__ == "__main__":
    run(__doc__, SPLITS, prepare_instances)
