#!/usr/bin/env python
"""Makes the label maps of ADE20K's 150 classes."""

from mask2former.data.preparation.ade20k import SPLITS, prepare_semantic
from mask2former.data.preparation.script import run

if __name__ == "__main__":
    run(__doc__, SPLITS, prepare_semantic)
