#!/usr/bin/env python
"""Make the panoptic annotations of ADE20K from its label maps and instance maps."""

from mask2former.data.preparation.ade20k import prepare_panoptic
from mask2former.data.preparation.common import run

if __name__ == "__main__":
    run(__doc__, prepare_panoptic)
