"""Models as they are before a trace: a float32 copy for inference, batch norms folded."""

import copy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

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


@contextmanager
def fixed_same_padding() -> Iterator[None]:
    """Have timm pad by constants, as is right for sides that are multiples of the stride.

    Its "same" padding is a formula of the size, which an exporter reasons about for minutes.
    """
    modules = [m for name, m in sys.modules.items() if name.startswith("timm.")]
    changed = [(m, m.pad_same) for m in modules if callable(getattr(m, "pad_same", None))]
    for module, _ in changed:
        setattr(module, "pad_same", _pad_multiples)  # noqa: B010  (mypy knows no such name)
    try:
        yield
    finally:
        for module, own in changed:
            setattr(module, "pad_same", own)  # noqa: B010


def _pad_multiples(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    value: float = 0,
) -> Tensor:
    """Pad maps (B, C, H, W) by what timm's `pad_same` does where the stride divides H and W."""
    sides = zip(kernel_size, stride, dilation)
    high, wide = (max((k - 1) * d + 1 - s, 0) for k, s, d in sides)
    return nn.functional.pad(
        x, (wide // 2, wide - wide // 2, high // 2, high - high // 2), value=value
    )
