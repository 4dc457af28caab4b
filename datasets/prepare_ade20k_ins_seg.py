#!/usr/bin/env python
"""Make the instance annotations of ADE20K, in COCO's form, from its instance maps."""

from mask2former.data.preparation.ade20k import prepare_instances
from mask2former.data.preparation.common import run

if __name__ == "__main__":
    run(__doc__, prepare_instances)
