"""Multi-scale deformable attention, and the choice of how it is computed.

Source: Deformable DETR, Zhu et al. 2021, equation 3: each output is a weighted sum of samples of
the value maps. The implementations agree with each other to rounding:

- ``bag``: embedding bags (bag.py); for CPUs, and for GPUs without Triton.
- ``triton``: kernels that Triton compiles on first use (triton_kernels.py); for CUDA.
- ``extension``: the compiled operator of the package torch-ms-deform-attn, where it is installed.
- ``grid_sample``: plain PyTorch, slow; for export, other devices, second derivatives, and tests.

Shapes: S is the sum of H*W over the levels, D = C/M the channels of a head.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from . import bag
from .custom_op import Forward, Sizes, deformable_op

_log = logging.getLogger(__name__)

ENVIRONMENT_VARIABLE = "MASK2FORMER_DEFORM_ATTN"
IMPLEMENTATIONS = ("auto", "bag", "triton", "extension", "grid_sample")


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
        weights: (B, Q, M, L, P).

    Returns:
        (B, Q, M*D), with the heads side by side, of the type of value.

    Raises:
        ValueError: the shapes do not fit each other, or the chosen implementation cannot run on
            this device.
        ImportError: the chosen implementation is not installed.
    """
    pairs = tuple((h, w) for h, w in sizes)
    _check_shapes(value, pairs, locations, weights)
    name = _requested
    if name == "auto":
        name = _automatic_choice(value)
        if not torch.compiler.is_compiling():
            _log_once(name, value.device.type)
    return _operator(name, value.device.type)(value, pairs, locations, weights)


@contextmanager
def use_implementation(name: str) -> Iterator[None]:
    """Within this context, compute deformable attention in the named way.

    Outside of it the environment variable MASK2FORMER_DEFORM_ATTN decides when the package is
    imported; without that, the choice is automatic.

    Args:
        name: one of IMPLEMENTATIONS.

    Raises:
        ValueError: there is no such implementation.
    """
    global _requested
    before, _requested = _requested, _known(name, "use_implementation")
    try:
        yield
    finally:
        _requested = before


def deformable_attention_grid_sample(
    value: Tensor, sizes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """The same sum through `grid_sample`, level by level."""
    batch, _, heads, dim = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    dtype = torch.promote_types(value.dtype, locations.dtype)
    sampled = []
    for level, (x, (h, w)) in enumerate(zip(value.split([h * w for h, w in sizes], 1), sizes)):
        maps = x.to(dtype).permute(0, 2, 3, 1).reshape(batch * heads, dim, h, w)
        grid = 2 * locations[:, :, :, level].to(dtype) - 1
        grid = grid.transpose(1, 2).reshape(batch * heads, queries, points, 2)
        sampled.append(F.grid_sample(maps, grid, align_corners=False))
    samples = torch.stack(sampled, 3)  # (B*M, D, Q, L, P)
    summands = samples * weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels, points)
    out = summands.sum((-1, -2)).view(batch, heads * dim, queries)
    return out.transpose(1, 2).to(value.dtype)


_bag = deformable_op("deform_attn_bag", bag.forward, bag.backward)


def _known(name: str, source: str) -> str:
    if name not in IMPLEMENTATIONS:
        raise ValueError(
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
    if value.dtype == torch.float64:
        return "bag"
    return _choice_on_cuda(value.device.index, value.dtype)


@torch.compiler.assume_constant_result
def _choice_on_cuda(index: int, dtype: torch.dtype) -> str:
    return _measured_choice(index, dtype, torch.are_deterministic_algorithms_enabled())


@lru_cache(maxsize=32)
def _measured_choice(index: int, dtype: torch.dtype, deterministic: bool) -> str:
    """The fastest implementation that is there; the extension is in no fixed order of sums."""
    from .backends import fastest, has_extension, has_triton

    device = torch.device("cuda", index)
    if not has_triton(device):
        return "extension" if has_extension() and not deterministic else "bag"
    if not has_extension() or deterministic or torch.cuda.is_current_stream_capturing():
        return "triton"
    candidates = {name: _operator(name, "cuda") for name in ("triton", "extension")}
    return fastest(candidates, device, dtype)


@lru_cache(maxsize=16)
def _log_once(name: str, device_type: str) -> None:
    _log.info("deformable attention on %s is computed by: %s", device_type, name)


def _operator(name: str, device_type: str) -> Forward:
    if name == "bag":
        return _bag
    if name == "grid_sample":
        return deformable_attention_grid_sample
    from .backends import extension_operator, triton_operator

    load: Callable[[str], Forward] = triton_operator if name == "triton" else extension_operator
    return load(device_type)


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
