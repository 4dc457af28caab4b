"""Multi-scale deformable attention, and the choice of how it is computed.

Source: Deformable DETR, Zhu et al. 2021, equation 3: each output is a weighted sum of samples of
the value maps. The implementations agree with each other to rounding:

- ``bag``: embedding bags (bag.py; in exported programs one bag, traced_bag.py), on any device.
- ``triton``: kernels that Triton compiles on first use (triton_kernels.py), on CUDA.
- ``grid_sample``: plain PyTorch (grid_sample.py), slow, on any device, twice differentiable.
- ``gather``: likewise without `grid_sample` (gather.py), for runtimes that mishandle it.

The automatic choice depends on nothing but device, type and what is installed, so that all
processes of a job make the same one: `bag` on CPUs; on CUDA `triton`, or `bag` where Triton is
unavailable or values are float64; `grid_sample` on other devices, and while a model is exported.

Shapes: S is the sum of H*W over the levels, D = C/M the channels of a head.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

from ...errors import MissingPackageError, UserError
from . import bag, traced_bag
from .custom_op import Forward, Sizes
from .gather import deformable_attention_gather
from .grid_sample import deformable_attention_grid_sample

logger = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "MASK2FORMER_DEFORM_ATTN"
IMPLEMENTATIONS = ("auto", "bag", "triton", "grid_sample", "gather")
# The CUDA capability from which on Triton generates code: Volta.
_MIN_CAPABILITY = (7, 0)


def deformable_attention(
    value: Tensor, sizes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Sum bilinear samples of the value maps under attention weights.

    Sums are made in float32 (float64 if one of the inputs has it), whatever the types of the
    inputs; keep locations in float32, as 16 bits do not tell neighbouring pixels apart.

    Args:
        value: (B, S, M, D), the levels' pixels in row-major order, one level after the other.
        sizes: (H, W) of every level, Python integers.
        locations: (B, Q, M, L, P, 2), (x, y) with 0 and 1 at the outer edges of the map; a
            sample outside reads zeros.
        weights: (B, Q, M, L, P); or, as the locations, with one axis for levels and points.

    Returns:
        (B, Q, M*D), with the heads side by side, of the type of value.

    Raises:
        ValueError: the shapes do not fit each other, or the chosen implementation cannot run on
            this device.
        ImportError: the chosen implementation is not installed.
    """
    pairs = tuple((h, w) for h, w in sizes)
    name = _requested
    if name == "auto":
        name = _automatic_choice(value)
        if not torch.compiler.is_compiling():
            _log_once(name, value.device.type)
    is_exportable = name in ("grid_sample", "gather")  # to runtimes that take five axes at most
    if is_exportable and weights.dim() == 4:
        return _operator(name, value.device.type)(value, pairs, locations, weights)
    if weights.dim() == 4:
        locations, weights = (t.unflatten(3, (len(pairs), -1)) for t in (locations, weights))
    _check_shapes(value, pairs, locations, weights)
    return _operator(name, value.device.type)(value, pairs, locations, weights)


@contextmanager
def use_implementation(name: str) -> Iterator[None]:
    """Within this context, compute deformable attention in the named way.

    Outside of it the environment variable MASK2FORMER_DEFORM_ATTN decides when the package is
    imported; without that, the choice is automatic.

    Args:
        name: one of IMPLEMENTATIONS.

    Raises:
        UserError: there is no such implementation.
    """
    global _requested
    before, _requested = _requested, _known(name, "use_implementation")
    try:
        yield
    finally:
        _requested = before


def _known(name: str, source: str) -> str:
    if name not in IMPLEMENTATIONS:
        raise UserError(
            f"{source}: expected one of {', '.join(IMPLEMENTATIONS)}, got {name!r}; "
            "choose one of these, or leave it at 'auto'."
        )
    return name


_requested = _known(os.environ.get(ENVIRONMENT_VARIABLE, "auto"), ENVIRONMENT_VARIABLE)


def _automatic_choice(value: Tensor) -> str:
    compiling = torch.compiler.is_compiling()
    if torch.compiler.is_exporting() or (not compiling and torch.onnx.is_in_onnx_export()):
        return "grid_sample"  # operators that other runtimes know
    if value.device.type == "cpu":
        return "bag"
    if value.device.type != "cuda":
        return "grid_sample"
    has_kernels = value.dtype != torch.float64 and _can_run_triton(value.device.index)
    return "triton" if has_kernels else "bag"


@torch.compiler.assume_constant_result
def _can_run_triton(index: int) -> bool:
    return _has_triton(index)


@lru_cache(maxsize=16)
def _has_triton(index: int) -> bool:
    """Return whether Triton is installed and generates code for this CUDA device."""
    if find_spec("triton") is None:
        return False
    return torch.version.hip is not None or (
        torch.cuda.get_device_capability(index) >= _MIN_CAPABILITY
    )


@lru_cache(maxsize=16)
def _log_once(name: str, device_type: str) -> None:
    logger.info("deformable attention on %s is computed by: %s", device_type, name)


def _operator(name: str, device_type: str) -> Forward:
    if name == "bag":
        return traced_bag.forward if torch.compiler.is_exporting() else bag.operator
    if name == "grid_sample":
        return deformable_attention_grid_sample
    if name == "gather":
        return deformable_attention_gather
    return _triton_operator(device_type)


@lru_cache(maxsize=4)
def _triton_operator(device_type: str) -> Forward:
    if find_spec("triton") is None:
        raise MissingPackageError(
            "deformable attention: the implementation 'triton' needs the package triton, which "
            "comes with PyTorch's CUDA builds for Linux; install it, or choose 'auto'."
        )
    from . import triton_kernels  # imports Triton

    if device_type != "cuda" and not triton_kernels.INTERPRETED:
        raise UserError(
            f"deformable attention: the implementation 'triton' needs CUDA tensors, got tensors "
            f"on {device_type}; choose 'auto', or set TRITON_INTERPRET=1 to debug the kernels."
        )
    return triton_kernels.operator


def _check_shapes(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> None:
    total = sum(h * w for h, w in sizes)
    if value.dim() != 4 or value.shape[1] != total:
        raise ValueError(
            f"deformable_attention: value must be (B, {total}, M, D) for levels {sizes}, "
            f"got {tuple(value.shape)}."
        )
    expected = (value.shape[0], value.shape[2], len(sizes), 2)
    got = tuple(locations.shape)
    if locations.dim() != 6 or (got[0], got[2], got[3], got[5]) != expected:
        raise ValueError(
            "deformable_attention: locations must be (B, Q, M, L, P, 2) with "
            f"(B, M, L, 2) = {expected}, got {got}."
        )
    if weights.shape != locations.shape[:-1]:
        raise ValueError(
            "deformable_attention: weights must have the shape of locations without its last "
            f"axis, {got[:-1]}, got {tuple(weights.shape)}."
        )
