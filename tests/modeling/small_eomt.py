"""An EoMT small enough for tests."""

import torch
from detectron2.config import CfgNode

from mask2former.config import get_config
from mask2former.modeling import MaskFormer
from mask2former.modeling.build import build_model


def eomt_config(name: str = "vit_small_patch14_reg4_dinov2", **eomt) -> CfgNode:
    """A config of three classes, six queries, and two of three blocks that see them."""
    cfg = get_config()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "MaskFormer"
    cfg.MODEL.BACKBONE.NAME = "build_timm_vit_backbone"
    cfg.MODEL.TIMM.NAME = name
    cfg.MODEL.SEM_SEG_HEAD.NAME = "EoMTHead"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = 6
    cfg.MODEL.MASK_FORMER.DEC_LAYERS = 3
    cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY = -1
    cfg.MODEL.MASK_FORMER.TRAIN_NUM_POINTS = 64
    sizes = {"IMAGE_SIZE": [64, 64], "EMBED_DIM": 32, "DEPTH": 3, "NUM_HEADS": 4}
    for key, value in (sizes | eomt).items():
        cfg.MODEL.EOMT[key] = value
    return cfg


def eomt_model(*args, **eomt) -> MaskFormer:
    """The model of `eomt_config`."""
    torch.manual_seed(0)
    return build_model(eomt_config(*args, **eomt))
