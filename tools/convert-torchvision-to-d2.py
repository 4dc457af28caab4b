#!/usr/bin/env python3
"""Convert a ResNet of torchvision for use as MODEL.WEIGHTS; see also convert_checkpoint.py.

convert-torchvision-to-d2.py resnet50.pth R-50.pkl
"""

import sys

from mask2former.checkpoints.bridges.convert import backbone_to_ours
from mask2former.errors import one_line

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with one_line("convert-torchvision-to-d2.py"):
        backbone_to_ours(sys.argv[1], sys.argv[2], "torchvision")
