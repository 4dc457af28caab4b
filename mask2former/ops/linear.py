"""Linear maps on CPUs, by the library that makes most of the processor.

PyTorch leaves float32 matrix products, and convolutions of one pixel, to MKL, which on processors
that are not Intel's does without AVX-512. oneDNN, which PyTorch has inside too, does not: there it
takes half of the time, forward and backward. With AVX2, and on Intel's, MKL does not: there oneDNN
is taken without gradients only, so that all machines add in one order.

In bfloat16 PyTorch takes oneDNN as well, but writes the bias in a pass of its own, which is saved
without gradients.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .recording import is_recorded

IMPLEMENTATIONS = ("auto", "onednn", "pytorch")
ENVIRONMENT = "MASK2FORMER_LINEAR"

_log = logging.getLogger(__name__)

# Multiply-adds from which on a product is worth the way to oneDNN.
_WORTHWHILE = 2**20


def _known(name: str, where: str) -> str:
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"{where}: expected one of {', '.join(IMPLEMENTATIONS)}, got {name!r}.")
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
        ValueError: there is no such implementation.
    """
    global _requested
    before, _requested = _requested, _known(name, "use_linear")
    try:
        yield
    finally:
        _requested = before


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`: x (..., I) times the transpose of weight (O, I), plus bias (O,)."""
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
    """`F.conv2d`: one of a single pixel, over maps whose channels come last, is a linear map."""
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


def product_into(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Write the product of a (M, K) and b (K, N) to out (M, N), without a gradient."""
    if _pays(b, a, b.numel()):
        out.copy_(_product(a, b.T, None))
    else:
        torch.mm(a, b, out=out)


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
    """All pixels of maps (B, C, H, W), (B*H*W, C), contiguous."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _by_pixels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Map x (B, C, H, W), channels last, to (B, O, H, W), likewise."""
    out = _product(_pixels(x), weight, bias)
    return out.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, needed: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Those of x (N, I), weight (O, I) and a bias, from that of the products (N, O)."""
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
    """Whether oneDNN's own operators may be called."""
    return _requested != "pytorch" and not is_recorded() and bool(torch.backends.mkldnn.enabled)


def computed_type(x: Tensor) -> torch.dtype:
    """The type that a product with x is computed in, on a CPU, as autocast has it."""
    if x.dtype == torch.float64 or not torch.is_autocast_enabled("cpu"):
        return x.dtype
    return torch.get_autocast_dtype("cpu")


def as_computed(*tensors: Any) -> tuple[Any, ...]:
    """Tensors in that type; None stays."""
    return tuple(t if t is None else t.to(computed_type(t)) for t in tensors)


def _pays(x: Tensor, weight: Tensor, numbers: int) -> bool:
    """Whether oneDNN is to map so many numbers of x by a weight (O, I, ...)."""
    return (
        onednn_is_wanted()  # first, as a compiler would heed the comparison of sizes
        and x.device.type == "cpu"
        and computed_type(x) == computed_type(weight)
        and numbers * len(weight) >= _WORTHWHILE
        and is_preferred_for(computed_type(x))
    )


def is_preferred_for(dtype: torch.dtype) -> bool:
    """Whether oneDNN is to compute linear maps of a type on this CPU, now."""
    gradients = torch.is_grad_enabled()
    if dtype == torch.float32:
        return (_requested == "onednn" or _is_preferred(gradients)) and _is_there(dtype)
    return dtype == torch.bfloat16 and not gradients and _is_there(dtype)


@lru_cache(maxsize=2)
def _is_preferred(gradients: bool) -> bool:
    """Whether oneDNN is to be taken: with gradients where MKL leaves instructions unused."""
    capability = torch.backends.cpu.get_cpu_capability()
    if gradients:
        preferred = capability == "AVX512" and not _made_by_intel()
    else:
        preferred = capability in ("AVX512", "AVX2")
    _log.info(
        "linear maps in float32 %s gradients are computed on this CPU by: %s",
        "with" if gradients else "without",
        "oneDNN" if preferred else "PyTorch's choice",
    )
    return preferred


def _made_by_intel() -> bool:
    """As Linux tells; True where it cannot be known, so that all stays as PyTorch has it."""
    path = Path("/proc/cpuinfo")
    return not path.is_file() or "GenuineIntel" in path.read_text()


@lru_cache(maxsize=2)
def _is_there(dtype: torch.dtype) -> bool:
    """Whether this PyTorch has the operator as we call it, and this processor the type."""
    sizes = ((2, 3), (4, 3), (4,))
    return works(dtype, lambda: _product(*(probe(size, dtype) for size in sizes)))


def probe(size: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Ones on the CPU, whatever the default device, to try an operator with."""
    return torch.ones(size, dtype=dtype, device="cpu")


def works(dtype: torch.dtype, attempt: Callable[[], object]) -> bool:
    """Whether a call of oneDNN's operators, which are internal ones of PyTorch's, works."""
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        attempt()
    except (AttributeError, RuntimeError, TypeError) as error:
        _log.warning("oneDNN's operators are not to be had, PyTorch's are used: %s", error)
        return False
    return True
