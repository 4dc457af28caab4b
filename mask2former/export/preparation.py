"""Models as they are before a trace: a float32 copy for inference, batch norms folded."""

import copy

import torch
from torch import nn

from ..modeling.backbone.folding import fold_norms, speed_up_convolutions


def prepare(model: nn.Module) -> nn.Module:
    """Return a copy of a model on the CPU in eval mode, float32, without batch norms that are a
    fixed factor and offset; the model is left as it is."""
    memo = {}
    if getattr(model, "_replay", None) is not None:  # recorded for a GPU
        memo[id(model._replay)] = None
    copied = copy.deepcopy(model, memo).to("cpu").float().eval()
    for module in copied.modules():
        if getattr(module, "precision", "fp32") != "fp32":
            module.precision = "fp32"
        if getattr(module, "autocast_in_eval", False):
            module.autocast_in_eval = False
    copied.requires_grad_(False)
    with torch.no_grad():
        return fold_norms(speed_up_convolutions(copied))
