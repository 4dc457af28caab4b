#!/usr/bin/env python
"""Makes the label maps of ADE20K with 847 classes."""

from mask2former.data.preparation.ade20k_full import SPLITS, prepare
from mask2former.data.preparation.script import run

if __name__ == "__main__":
    run(__doc__, SPLITS, prepare)
