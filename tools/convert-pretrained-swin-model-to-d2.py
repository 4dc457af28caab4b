#!/usr/bin/env python3
"""Convert an official Swin checkpoint for use as MODEL.WEIGHTS; see also convert_checkpoint.py.

convert-pretrained-swin-model-to-d2.py swin_tiny_patch4_window7_224.pth swin_tiny.pkl
"""

import sys

from mask2former.checkpoints.bridges.convert import backbone_to_ours
from mask2former.errors import one_line

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with one_line("convert-pretrained-swin-model-to-d2.py"):
        backbone_to_ours(sys.argv[1], sys.argv[2], "swin")
