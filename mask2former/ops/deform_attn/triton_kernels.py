"""Deformable attention as Triton kernels: compiled on first use, no compiler at installation.

Values may be float32, float16 or bfloat16; sums are float32. Importing this module needs Triton;
`dispatch` does it when there is a use for it. With TRITON_INTERPRET=1 in the environment before
the import, the kernels run on CPUs too, slowly: that is how they are tested.
"""

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import bag
from .custom_op import Sizes, deformable_op

INTERPRETED = bool(triton.knobs.runtime.interpret)
# Queries of a program and its warps; which is best depends on the GPU, so they are timed there.
_SHAPES = [(4, 4)] if INTERPRETED else [(8, 1), (16, 2), (16, 4), (32, 4)]
_CONFIGS = [triton.Config({"BLOCK_Q": q}, num_warps=warps) for q, warps in _SHAPES]


@triton.jit
def _bag_of_program(Q: tl.tensor, M: tl.constexpr, BLOCK_Q: tl.constexpr) -> Any:
    """Return image, head, the rows (B*Q*M) of this program's queries, and which of them exist."""
    q = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    image, head = (tl.program_id(1) // M).to(tl.int64), tl.program_id(1) % M
    return image, head, (image * Q + q) * M + head, q < Q


@triton.jit
def _level(levels: tl.tensor, level: tl.tensor) -> Any:
    """Return height, width and first token of a level."""
    entry = levels + 3 * level
    return tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)


@triton.jit
def _find_sample(
    location: tl.tensor, i: tl.tensor, active: tl.tensor, width: tl.tensor, height: tl.tensor
) -> Any:
    """Return top left pixel of samples and the distances from it; far outside counts as just
    outside."""
    x = tl.load(location + 2 * i, mask=active, other=0.0).to(tl.float32) * width - 0.5
    y = tl.load(location + 2 * i + 1, mask=active, other=0.0).to(tl.float32) * height - 0.5
    x = tl.minimum(tl.maximum(x, -2.0), width + 1.0)
    y = tl.minimum(tl.maximum(y, -2.0), height + 1.0)
    left, top = tl.floor(x), tl.floor(y)
    return left.to(tl.int32), top.to(tl.int32), x - left, y - top


@triton.jit
def _pixel(
    x: tl.tensor,
    y: tl.tensor,
    active: tl.tensor,
    width: tl.tensor,
    height: tl.tensor,
    M: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> Any:
    """Return offsets (q, d) of pixels from the first of their level, and which of them exist."""
    d = tl.arange(0, BLOCK_D)
    exists = active & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    offset = (y * width + x) * (M * D)
    return offset[:, None] + d[None, :], exists[:, None] & (d < D)[None, :]


@triton.autotune(_CONFIGS, key=["M", "L", "P", "D"])
@triton.jit(do_not_specialize=["Q", "S"])
def _forward_kernel(
    value: tl.tensor,  # (B, S, M, D)
    levels: tl.tensor,  # (L, 3) int32: height, width, first token
    location: tl.tensor,  # (B, Q, M, L, P, 2)
    weight: tl.tensor,  # (B, Q, M, L, P)
    out: tl.tensor,  # (B, Q, M, D)
    Q: tl.tensor,
    S: tl.tensor,
    M: tl.constexpr,
    L: tl.constexpr,
    P: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
) -> None:
    image, head, bag_row, active = _bag_of_program(Q, M, BLOCK_Q)
    d = tl.arange(0, BLOCK_D)
    total = tl.zeros((BLOCK_Q, BLOCK_D), tl.float32)
    for level in range(L):
        height, width, start = _level(levels, level)
        pixels = value + ((image * S + start) * M + head) * D
        for point in range(P):
            i = (bag_row * L + level) * P + point
            attention = tl.load(weight + i, mask=active, other=0.0).to(tl.float32)
            left, top, x, y = _find_sample(location, i, active, width, height)
            for below in tl.static_range(2):
                for right in tl.static_range(2):
                    factor = attention * (x if right else 1 - x) * (y if below else 1 - y)
                    offset, exists = _pixel(
                        left + right, top + below, active, width, height, M, D, BLOCK_D
                    )
                    pixel = tl.load(pixels + offset, mask=exists, other=0.0).to(tl.float32)
                    total += factor[:, None] * pixel
    mask = active[:, None] & (d < D)[None, :]
    tl.store(out + bag_row[:, None] * D + d[None, :], total.to(out.dtype.element_ty), mask)


@triton.jit
def _sample_gradients(
    pixels: tl.tensor,
    d_pixels: tl.tensor,
    g: tl.tensor,
    attention: tl.tensor,
    left: tl.tensor,
    top: tl.tensor,
    x: tl.tensor,
    y: tl.tensor,
    active: tl.tensor,
    width: tl.tensor,
    height: tl.tensor,
    M: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> Any:
    """Add the gradients of the four pixels of samples; return those of weight, x and y."""
    d_attention = tl.zeros_like(x)
    d_x = tl.zeros_like(x)
    d_y = tl.zeros_like(x)
    for below in tl.static_range(2):
        for right in tl.static_range(2):
            factor_x = x if right else 1 - x
            factor_y = y if below else 1 - y
            offset, exists = _pixel(left + right, top + below, active, width, height, M, D, BLOCK_D)
            pixel = tl.load(pixels + offset, mask=exists, other=0.0).to(tl.float32)
            dot = tl.sum(pixel * g, 1)
            d_attention += dot * factor_x * factor_y
            d_x += dot * factor_y * (1 if right else -1)
            d_y += dot * factor_x * (1 if below else -1)
            factor = attention * factor_x * factor_y
            tl.atomic_add(d_pixels + offset, factor[:, None] * g, mask=exists, sem="relaxed")
    return d_attention, d_x * attention * width, d_y * attention * height


@triton.autotune(_CONFIGS, key=["M", "L", "P", "D"], reset_to_zero=["d_value"])
@triton.jit(do_not_specialize=["Q", "S"])
def _backward_kernel(
    value: tl.tensor,
    levels: tl.tensor,
    location: tl.tensor,
    weight: tl.tensor,
    grad: tl.tensor,  # (B, Q, M, D)
    d_value: tl.tensor,  # (B, S, M, D) float32, zeros
    d_location: tl.tensor,
    d_weight: tl.tensor,
    Q: tl.tensor,
    S: tl.tensor,
    M: tl.constexpr,
    L: tl.constexpr,
    P: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
) -> None:
    image, head, bag_row, active = _bag_of_program(Q, M, BLOCK_Q)
    d = tl.arange(0, BLOCK_D)
    mask = active[:, None] & (d < D)[None, :]
    g = tl.load(grad + bag_row[:, None] * D + d[None, :], mask=mask, other=0.0).to(tl.float32)
    kind = d_location.dtype.element_ty
    for level in range(L):
        height, width, start = _level(levels, level)
        first = ((image * S + start) * M + head) * D
        for point in range(P):
            i = (bag_row * L + level) * P + point
            attention = tl.load(weight + i, mask=active, other=0.0).to(tl.float32)
            left, top, x, y = _find_sample(location, i, active, width, height)
            d_attention, d_x, d_y = _sample_gradients(
                value + first, d_value + first, g, attention, left, top, x, y,
                active, width, height, M, D, BLOCK_D,
            )  # fmt: skip
            tl.store(d_location + 2 * i, d_x.to(kind), active)
            tl.store(d_location + 2 * i + 1, d_y.to(kind), active)
            tl.store(d_weight + i, d_attention.to(d_weight.dtype.element_ty), active)


@lru_cache(maxsize=64)
def _levels(sizes: Sizes, device: torch.device) -> Tensor:
    """Return height, width and first token of every level, (L, 3) int32, sent without waiting."""
    rows, start = [], 0
    for h, w in sizes:
        rows.append((h, w, start))
        start += h * w
    return torch.tensor(rows, dtype=torch.int32).to(device, non_blocking=True)


def _launch(kernel: Any, tensors: list[Tensor], value: Tensor, locations: Tensor) -> None:
    batch, tokens, heads, dim = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(queries, meta["BLOCK_Q"]), batch * heads

    if batch * queries == 0:
        return
    kernel[grid](*tensors, queries, tokens, heads, levels, points, dim, triton.next_power_of_2(dim))


def forward(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Sum the samples; shapes as in `deform_attn.deformable_attention`."""
    value, locations, weights = (x.contiguous() for x in (value, locations, weights))
    batch, _, heads, dim = value.shape
    out = value.new_empty(batch, locations.shape[1], heads * dim)
    tensors = [value, _levels(sizes, value.device), locations, weights, out]
    _launch(_forward_kernel, tensors, value, locations)
    return out


def backward(
    grad_out: Tensor, value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of value, locations and weights.

    The gradients of the values are added up in no fixed order; under
    `torch.use_deterministic_algorithms` the slower sums of the embedding bag replace them.
    """
    if torch.are_deterministic_algorithms_enabled():
        return bag.backward(grad_out, value, sizes, locations, weights)
    value, locations, weights = (x.contiguous() for x in (value, locations, weights))
    d_value = torch.zeros_like(value, dtype=torch.float32)
    d_locations, d_weights = torch.empty_like(locations), torch.empty_like(weights)
    levels = _levels(sizes, value.device)
    tensors = [value, levels, locations, weights, grad_out.contiguous()]
    _launch(_backward_kernel, [*tensors, d_value, d_locations, d_weights], value, locations)
    return d_value.to(value.dtype), d_locations, d_weights


operator = deformable_op("deform_attn_triton", forward, backward)
