"""Linear maps on CPUs, by the library that makes the most of the processor.

PyTorch leaves float32 matrix products, and convolutions of one pixel, to MKL, which on processors
that are not Intel's does without AVX-512. oneDNN, which PyTorch has inside too, does not: by MKL an
image of 800x1216 takes 15 % more on a Zen 4, and a product twice the time on a Zen 5. With AVX2,
and on Intel's, MKL uses all there is: there oneDNN is taken without gradients only, so that all
machines add in one order.

In bfloat16 PyTorch takes oneDNN as well, but writes the bias in a pass of its own, which is saved
without gradients.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from .recording import is_recorded

IMPLEMENTATIONS = ("auto", "onednn", "pytorch")
ENVIRONMENT = "MASK2FORMER_LINEAR"

logger = logging.getLogger(__name__)

# What oneDNN does to a result before it is written: adds another tensor, then a ReLU.
ADD_RELU: tuple = ("add", 1.0, "relu", [], "")

# Multiply-adds from which on a product is worth the detour to oneDNN.
_MIN_MULTIPLY_ADDS = 2**20


def _known(name: str, where: str) -> str:
    if name not in IMPLEMENTATIONS:
        raise UserError(f"{where}: expected one of {', '.join(IMPLEMENTATIONS)}, got {name!r}.")
    return name


_requested = _known(os.environ.get(ENVIRONMENT, "auto"), ENVIRONMENT)


@contextmanager
def use_linear(name: str) -> Iterator[None]:
    """Within this context, compute linear maps in the named way.

    "pytorch" keeps all to PyTorch's operators, what `fused_relu` does too. "onednn" prefers oneDNN
    on any processor, where there are gradients: in float32.

    Outside of it the environment variable MASK2FORMER_LINEAR decides when the package is imported;
    without that, the choice is automatic.

    Args:
        name: one of IMPLEMENTATIONS.

    Raises:
        UserError: there is no such implementation.
    """
    global _requested
    before, _requested = _requested, _known(name, "use_linear")
    try:
        yield
    finally:
        _requested = before


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `F.linear`: x (..., I) times the transpose of weight (O, I), plus bias (O,)."""
    if not _pays(x, weight, x.numel()):
        return F.linear(x, weight, bias)
    x, weight, bias = as_computed(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    inputs = (rows, weight) if bias is None else (rows, weight, bias)
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        out = _Linear.apply(rows, weight, bias)
    else:
        out = _product(rows, weight, bias)
    return out.view(*x.shape[:-1], len(weight))


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: tuple[int, ...] = (1, 1),
    padding: Any = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Compute `F.conv2d`; with one of a single pixel, over channels-last maps, as a linear map."""
    if (
        x.dim() != 4
        or weight.shape[2:] != (1, 1)
        or padding not in ((0, 0), 0, "valid", "same")
        or x.device.type != "cpu"
        or not x.is_contiguous(memory_format=torch.channels_last)
    ):
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if max(stride) > 1:
        # In PyTorch 2.14 the gradient of a strided one writes past its memory where channels are
        # few, by the number of threads.
        x = x[:, :, :: stride[0], :: stride[1]]
    if groups != 1 or not _pays(x, weight, x.numel()):
        return F.conv2d(x, weight, bias, groups=groups)
    x, weight, bias = as_computed(x, weight.flatten(1), bias)
    if torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (x, weight, bias)
    ):
        return _Pointwise.apply(x, weight, bias)
    return _by_pixels(x, weight, bias)


class _Linear(torch.autograd.Function):
    """oneDNN's product, whose gradients are products of the same kind."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        return _gradients(grad.contiguous(), x, weight, ctx.needs_input_grad)


class _Pointwise(torch.autograd.Function):
    """The same over maps (B, C, H, W) whose channels come last.

    The result is no view, as a permuted one of `_Linear` would be: when it is changed in place, as
    residual blocks do, the gradients of a view are copied three times.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        out = _by_pixels(x, weight, bias)
        return out.new_empty(0).set_(out.untyped_storage(), 0, out.shape, out.stride())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needed = ctx.needs_input_grad
        d_x, d_weight, d_bias = _gradients(_pixels(grad), _pixels(x), weight, needed)
        if d_x is not None:
            d_x = d_x.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
        return d_x, d_weight, d_bias


def _pixels(maps: Tensor) -> Tensor:
    """Return all pixels of maps (B, C, H, W), (B*H*W, C), contiguous."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _by_pixels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Map x (B, C, H, W), channels last, to (B, O, H, W), likewise."""
    out = _product(_pixels(x), weight, bias)
    return out.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute gradients of x (N, I), weight (O, I) and a bias from that of the result (N, O)."""
    d_weight = None
    if needed[1]:
        # The first factor is copied if it is transposed: let that be the smaller one.
        if x.shape[1] < grad.shape[1]:
            d_weight = _product(x.T, grad.T, None).T
        else:
            d_weight = _product(grad.T, x.T, None)
    d_x = _product(grad, weight.T, None) if needed[0] else None
    return d_x, d_weight, grad.sum(0) if needed[2] else None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def onednn_is_wanted() -> bool:
    """Return whether oneDNN's own operators may be called."""
    return _requested != "pytorch" and not is_recorded() and bool(torch.backends.mkldnn.enabled)


def computed_type(x: Tensor) -> torch.dtype:
    """Return the type that a product with x is computed in, on a CPU, as autocast has it."""
    if x.dtype == torch.float64 or not torch.is_autocast_enabled("cpu"):
        return x.dtype
    return torch.get_autocast_dtype("cpu")


def as_computed(*tensors: Any) -> tuple[Any, ...]:
    """Return tensors in that type; None stays."""
    return tuple(t if t is None else t.to(computed_type(t)) for t in tensors)


def _pays(x: Tensor, weight: Tensor, numbers: int) -> bool:
    """Return whether oneDNN is to map `numbers` numbers of x by a weight (O, I, ...)."""
    return (
        onednn_is_wanted()  # first, as a compiler would guard on the comparison of sizes
        and x.device.type == "cpu"
        and computed_type(x) == computed_type(weight)
        and numbers * len(weight) >= _MIN_MULTIPLY_ADDS
        and is_preferred_for(computed_type(x))
    )


def is_preferred_for(dtype: torch.dtype) -> bool:
    """Return whether oneDNN is to compute linear maps of a type on this CPU, now."""
    gradients = torch.is_grad_enabled()
    if dtype == torch.float32:
        return (_requested == "onednn" or _is_preferred(gradients)) and _is_available(dtype)
    return dtype == torch.bfloat16 and not gradients and _is_available(dtype)


@lru_cache(maxsize=2)
def _is_preferred(gradients: bool) -> bool:
    """Return whether oneDNN is to be taken: with gradients where MKL leaves instructions unused."""
    capability = torch.backends.cpu.get_cpu_capability()
    if gradients:
        preferred = capability == "AVX512" and not _made_by_intel()
    else:
        preferred = capability in ("AVX512", "AVX2")
    logger.info(
        "linear maps in float32 %s gradients are computed on this CPU by: %s",
        "with" if gradients else "without",
        "oneDNN" if preferred else "PyTorch's choice",
    )
    return preferred


def _made_by_intel() -> bool:
    """Return whether the processor is Intel's, as Linux says; True where it is unknown."""
    path = Path("/proc/cpuinfo")
    return not path.is_file() or "GenuineIntel" in path.read_text()


@lru_cache(maxsize=2)
def _is_available(dtype: torch.dtype) -> bool:
    """Return whether oneDNN's operators can be called as here, with this type on this CPU."""
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        _call_all(dtype)
    except (AttributeError, RuntimeError, TypeError) as error:  # internal ones, which may change
        logger.warning("oneDNN's operators are unavailable, PyTorch's are used: %s", error)
        return False
    return True


def _call_all(dtype: torch.dtype) -> None:
    """Call all that is used here and in `fused_relu`, whatever the default device is."""
    ones = partial(torch.ones, dtype=dtype, device="cpu")
    x = ones(1, 2, 2, 2).contiguous(memory_format=torch.channels_last)
    rest = (ones(2, 2, 1, 1), ones(2), [0, 0], [1, 1], [1, 1], 1)
    for activation in ("none", "relu"):
        torch.ops.mkldnn._linear_pointwise(x[0, 0], ones(2, 2), ones(2), activation, [], "")
    torch.ops.mkldnn._convolution_pointwise(x, *rest, "relu", [], "")
    torch.ops.mkldnn._convolution_pointwise.binary(x, x, *rest, *ADD_RELU)
    torch.ops.mkldnn._convolution_pointwise_.binary(x.clone(), x, *rest, *ADD_RELU)
