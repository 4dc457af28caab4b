"""Build models from configs, after checking that the names in them are registered."""

import difflib
from functools import reduce

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model as build_registered
from detectron2.utils.registry import Registry
from torch import nn

from ..config.keys import CLASSES_FROM_DATA
from ..config.loading import changed
from ..errors import UserError
from .registries import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
    TRANSFORMER_DECODER_REGISTRY,
)
from .transformer_decoder.pilot import check_pilots

_REGISTRIES: dict[str, Registry] = {
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.SEM_SEG_HEAD.NAME": SEM_SEG_HEADS_REGISTRY,
    "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": SEM_SEG_HEADS_REGISTRY,
    "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME": TRANSFORMER_DECODER_REGISTRY,
}


def build_model(cfg: CfgNode) -> nn.Module:
    """Build the model that ``cfg`` describes, with random weights and in training mode.

    Args:
        cfg: not changed. Where MODEL.DEVICE asks for CUDA and there is none, the CPU is used.

    Raises:
        UserError: the config names a class that is not registered; lists those that are. Or the
            number of classes is not known.
    """
    _check_names(cfg)
    if cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == CLASSES_FROM_DATA:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {CLASSES_FROM_DATA}, and neither data nor "
            "checkpoint say how many classes there are; set it, or take the config.yaml of the "
            "training's OUTPUT_DIR"
        )
    # A copy, since a model may change its config.
    model = build_registered(resolve_device(cfg).clone())
    check_pilots(cfg, model)
    return model


def resolve_device(cfg: CfgNode) -> CfgNode:
    """Return ``cfg``, or a copy with MODEL.DEVICE "cpu" where CUDA is asked for but missing.

    Raises:
        UserError: there is no such device.
    """
    try:
        torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise UserError(
            f"MODEL.DEVICE: expected cpu, cuda or cuda:NUMBER, got {cfg.MODEL.DEVICE!r}"
        ) from error
    if not cfg.MODEL.DEVICE.startswith("cuda") or torch.cuda.is_available():
        return cfg
    return changed(cfg, "MODEL.DEVICE", "cpu")


def _check_names(cfg: CfgNode) -> None:
    for key, registry in _REGISTRIES.items():
        value = reduce(lambda node, name: node.get(name, {}), key.split("."), cfg)
        if value == {} or value in registry:  # plain detectron2 configs lack some keys
            continue
        names = sorted(name for name, _ in registry)
        similar = difflib.get_close_matches(str(value), names, n=1)
        nearest = f"; nearest: {similar[0]}" if similar else ""
        raise UserError(
            f"{key} is {value!r}, which is not registered{nearest}; there are: {', '.join(names)}."
            " A class of your own is registered when its module is imported"
        )
