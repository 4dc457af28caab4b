"""The two kinds of attention in DAT: inside windows, and to keys at learned positions.

Source: Vision Transformer with Deformable Attention, Xia et al. 2022. Maps are channels last,
(B, H, W, C); the names of modules and parameters are the published ones.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...errors import UserError
from ...layers import WindowAttention
from ...ops.linear import linear
from ...ops.recording import integers

# Logits that are computed at a time, so that the memory for large images is bounded.
_MAX_LOGITS = 2**24


def named_norm(dim: int) -> nn.Sequential:
    """Return a LayerNorm over the last axis whose parameters are `norm.weight` and `norm.bias`."""
    return nn.Sequential(OrderedDict(norm=nn.LayerNorm(dim)))


class LocalAttention(WindowAttention):
    """Attention inside windows, shifted or not, of a map of any size.

    Args:
        dim: channels, divisible by num_heads.
        window: side of a window in pixels.
        num_heads: attention heads.
        shifted: whether windows are shifted by half their side, rounded up (Swin: down).
        side: side of the map in pretraining. The published weights hold the mask for it, which is
            kept for their sake only: another one is computed that serves every size.
    """

    projections: ClassVar[tuple[str, str]] = ("proj_qkv", "proj_out")

    def __init__(self, dim: int, window: int, num_heads: int, shifted: bool, side: int):
        super().__init__(dim, window, num_heads, shift=math.ceil(window / 2) if shifted else 0)
        if self.shift_masks is not None:
            windows = math.ceil(side / window)
            last = (torch.arange(windows) == windows - 1).long()
            self.register_buffer("attn_mask", self.shift_masks[last[:, None], last].flatten(0, 1))


class SampledKeyAttention(nn.Module):
    """Attention of all pixels to keys sampled at moved positions, the same for all queries.

    Section 3.2 of the paper, "deformable attention"; unlike in Deformable DETR, whose layer is
    `mask2former.layers.DeformableAttention`, queries share the sampled keys, and weights come from
    products of queries and keys. Channels and heads fall into groups, which move their keys
    separately.

    Args:
        dim: channels, divisible by groups and num_heads.
        num_heads: attention heads, M, divisible by groups.
        groups: G.
        side: side of the map in pretraining, for which the table of relative positions is made.
        kernel: side of the depthwise convolution that the offsets come from.
        offset_range: the farthest that a key moves, in units of half the distance between pixels;
            below 0, keys move freely but stay inside the map.

    Raises:
        UserError: channels or heads that do not split.
    """

    def __init__(
        self, dim: int, num_heads: int, groups: int, side: int, kernel: int, offset_range: float
    ):
        super().__init__()
        if dim % num_heads or dim % groups or num_heads % groups:
            raise UserError(
                f"MODEL.DAT: {dim} channels and {num_heads} heads do not split into {groups} "
                "groups; choose widths that are multiples of both, and heads that are multiples "
                "of GROUPS."
            )
        self.num_heads = num_heads
        self.groups = groups
        self.offset_range = offset_range
        width = dim // groups
        self.conv_offset = nn.Sequential(
            nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width),
            named_norm(width),
            nn.GELU(),
            nn.Conv2d(width, 2, 1, bias=False),
        )
        self.proj_q = nn.Conv2d(dim, dim, 1)
        self.proj_k = nn.Conv2d(dim, dim, 1)
        self.proj_v = nn.Conv2d(dim, dim, 1)
        self.proj_out = nn.Conv2d(dim, dim, 1)
        self.rpe_table = nn.Parameter(torch.empty(num_heads, 2 * side - 1, 2 * side - 1))
        nn.init.trunc_normal_(self.rpe_table, std=0.01)

    def _split(self, x: Tensor) -> Tensor:
        """Split the channels of (B, H, W, C) into groups: (B*G, C/G, H, W)."""
        return x.unflatten(-1, (self.groups, -1)).permute(0, 3, 4, 1, 2).flatten(0, 1).contiguous()

    def positions(self, query: Tensor) -> Tensor:
        """Return where the keys of queries (B, H, W, C) are sampled: (B*G, H, W, 2).

        Positions are (y, x), -1 in the middle of the first row or column of the map's pixels and 1
        in the middle of the last one. Before keys are moved, each lies half a pixel down and right
        of a pixel's middle, as published.
        """
        depthwise, norm, activation, to_offset = self.conv_offset
        x = activation(norm(depthwise(self._split(query)).permute(0, 2, 3, 1)))
        offset = _exact(_pointwise(to_offset, x))  # coordinates want more than 8 bits
        references = _grid(*offset.shape[1:3], 0.5, offset)
        if self.offset_range < 0:
            return (references + offset).clamp(-1, 1)
        steps = integers([max(n - 1, 1) for n in offset.shape[1:3]], offset.device)
        pixel = (1 / steps.double()).to(offset)
        return references + offset.tanh() * pixel * self.offset_range

    def _sample(self, x: Tensor, positions: Tensor) -> Tensor:
        """Read a map (B, H, W, C), zero outside, at positions (B*G, H, W, 2): (B, H*W, C)."""
        x, dtype = _exact(self._split(x)), x.dtype
        samples = F.grid_sample(x, positions.flip(-1), align_corners=True)
        samples = samples.unflatten(0, (-1, self.groups)).flatten(3)  # (B, G, C/G, H*W)
        return samples.flatten(1, 2).transpose(1, 2).to(dtype)

    def position_bias(self, grid: Tensor, positions: Tensor) -> Tensor:
        """Return what to add to the logits of queries at grid (N, 2): (B, M, N, H*W).

        The table spans displacements from -2 to 2 whatever the map's size.
        """
        moves = (grid[:, None] - positions.flatten(1, 2)[:, None]) / 2  # (B*G, N, H*W, 2)
        tables = _exact(self.rpe_table).unflatten(0, (self.groups, -1))
        tables = tables.repeat(moves.shape[0] // self.groups, 1, 1, 1)
        bias = F.grid_sample(tables, moves.flip(-1), align_corners=True)
        return bias.unflatten(0, (-1, self.groups)).flatten(1, 2)

    def _heads(self, x: Tensor) -> Tensor:
        """Split the channels of (B, N, C) into heads: (B, M, N, C/M)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def attend(
        self, query: Tensor, grid: Tensor, key: Tensor, value: Tensor, positions: Tensor
    ) -> Tensor:
        """Attend from queries (B, M, N, C/M) at grid (N, 2) to all keys; the same shape."""
        bias = self.position_bias(grid, positions).to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C); H and W are any."""
        height, width = x.shape[1:3]
        query_map = _pointwise(self.proj_q, x)
        positions = self.positions(query_map)
        samples = self._sample(x, positions)
        key, value = (self._heads(_pointwise(p, samples)) for p in (self.proj_k, self.proj_v))
        query = self._heads(query_map.flatten(1, 2))
        grid = _grid(height, width, 0, positions).flatten(0, 1)
        if torch.compiler.is_exporting():
            out = self.attend(query, grid, key, value, positions).transpose(1, 2).flatten(2)
            return _pointwise(self.proj_out, out.unflatten(1, (height, width)))
        count = max(1, _MAX_LOGITS // (x.shape[0] * self.num_heads * grid.shape[0]))
        attend: Callable[..., Tensor] = self.attend
        if torch.is_grad_enabled() and count < len(grid):  # rather than keep all logits
            attend = partial(checkpoint, self.attend, use_reentrant=False)
        parts = [
            attend(*some, key, value, positions)
            for some in zip(query.split(count, dim=2), grid.split(count))
        ]
        out = torch.cat(parts, dim=2).transpose(1, 2).flatten(2)
        return _pointwise(self.proj_out, out.unflatten(1, (height, width)))


def _exact(x: Tensor) -> Tensor:
    """Bring halves to single precision, and leave single and double as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 1x1 convolution to the last axis."""
    return linear(x, conv.weight.flatten(1), conv.bias)


def _grid(height: int, width: int, shift: float, like: Tensor) -> Tensor:
    """Return the middles of pixels, moved down and right by `shift` of one: (H, W, 2)."""
    y, x = (
        (torch.arange(n, dtype=like.dtype, device=like.device) + shift) * 2 / max(n - 1, 1) - 1
        for n in (height, width)
    )
    return torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
