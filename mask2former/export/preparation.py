"""Models as they are before a trace: a float32 copy for inference, batch norms folded."""

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import config as fx_config

from ..modeling.backbone.folding import fold_norms, speed_up_convolutions
from ..ops.recording import integers


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
        # PyTorch takes what works in place apart, into many small operators, before it has a form
        # that ONNX knows.
        if getattr(module, "inplace", False) is True:
            module.inplace = False
    copied.requires_grad_(False)
    with torch.no_grad():
        return fold_norms(speed_up_convolutions(copied))


@contextmanager
def timm_of_any_size() -> Iterator[None]:
    """Have timm pad by constants, as is right for sides that are multiples of the stride, and take
    the places of patches from sizes that are symbols.

    Its "same" padding is a formula of the size, which an exporter reasons about for minutes; its
    rotary positions make numbers of the size.
    """
    ours = {"pad_same": _pad_multiples, "make_coords_dinov3": _patch_places}
    modules = [m for name, m in sys.modules.items() if name.startswith("timm.")]
    changed = [(m, name, vars(m)[name]) for m in modules for name in ours if name in vars(m)]
    for module, name, _ in changed:
        setattr(module, name, ours[name])
    try:
        yield
    finally:
        for module, name, own in changed:
            setattr(module, name, own)


@contextmanager
def without_stack_traces() -> Iterator[None]:
    """Have PyTorch record graphs without the lines of code that they come from.

    To write these down for each number that depends on a size takes more than half of the time.
    """
    before = getattr(fx_config, "do_not_emit_stack_traces", False)  # not in all versions
    fx_config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        fx_config.do_not_emit_stack_traces = before


@contextmanager
def without_switches() -> Iterator[None]:
    """Have `torch.no_grad` and `torch.autocast` do nothing in this thread, in which neither
    gradients nor autocast are on.

    An exporter cuts the graph at each of their ends and joins it again, in half of its time.
    """
    thread = threading.get_ident()
    changed = [
        (of, name, getattr(of, name))
        for of in (torch.no_grad, torch.autocast)
        for name in ("__enter__", "__exit__")
    ]

    def skipped(own: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any) -> Any:
            return None if threading.get_ident() == thread else own(self, *args)

        return call

    for of, name, own in changed:
        setattr(of, name, skipped(own))
    try:
        yield
    finally:
        for of, name, own in changed:
            setattr(of, name, own)


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


def _patch_places(height: int, width: int, *_: Any, grid_offset: float = 0, **__: Any) -> Tensor:
    """Return the middles (H*W, 2) of patches, -1 to 1 over each side, as DINOv3's are."""
    sides = [(torch.arange(n) + (0.5 + grid_offset)) / integers([n]) for n in (height, width)]
    return 2 * torch.stack(torch.meshgrid(*sides, indexing="ij"), -1).flatten(0, 1) - 1
