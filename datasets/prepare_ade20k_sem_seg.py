#!/usr/bin/env python
"""Make the label maps of ADE20K's 150 classes."""

from mask2former.data.preparation.ade20k import prepare_semantic
from mask2former.data.preparation.common import run

if __name__ == "__main__":
    run(__doc__, prepare_semantic)
