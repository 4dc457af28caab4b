"""Deformable attention and the encoder built from it.

Source: Deformable DETR, Zhu et al. 2021, sections 4.1 and A.4.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..ops.deform_attn import deformable_attention
from ..ops.linear import linear
from ..ops.memory import Buffers
from ..ops.recording import integers, is_recorded
from .linear import check_heads, is_watched, linear_of, need_not_be_called
from .transformer import ResidualLayer

# Tokens that pass at a time through what works token by token, outside of training: on CPUs such
# that they stay in the cache, on others such that memory is bounded and launches are few. They are
# twice as many if they come in 16 bits.
_TOKENS_PER_CHUNK = {"cpu": 2048}
_TOKENS_PER_CHUNK_ELSEWHERE = 2**16


class DeformableAttention(nn.Module):
    """Every query looks at a few learned locations on every level.

    Args:
        dim: channels, divisible by num_heads.
        num_levels: feature maps looked at.
        num_heads: attention heads.
        num_points: locations per head and level.
    """

    def __init__(self, dim: int, num_levels: int, num_heads: int, num_points: int = 4):
        super().__init__()
        check_heads(self, dim, num_heads)
        self.num_levels, self.num_heads, self.num_points = num_levels, num_heads, num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(dim, samples * 2)
        self.attention_weights = nn.Linear(dim, samples)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from fixed offsets: head h looks along 2*pi*h/M, its point p at p+1 pixels."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angle = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        reach = torch.arange(1, self.num_points + 1, dtype=torch.float32)
        offsets = direction[:, None, None] * reach[:, None]  # (M, 1, P, 2)
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        query: Tensor,
        position: Tensor,
        reference: Tensor,
        value: Tensor,
        sizes: Sequence[tuple[int, int]],
        buffers: Buffers | None = None,
    ) -> Tensor:
        """Attend around the reference points.

        Args:
            query: (B, Q, C).
            position: (Q, C) or (B or 1, Q, C), added to the queries.
            reference: (Q, 2), (x, y) of each query in 0..1, the same on every level.
            value: (B, S, C), the levels' pixels one level after the other.
            sizes: (H, W) of every level.
            buffers: of a stack of layers, for what is as large as the queries, without gradients.

        Returns:
            (B, Q, C).
        """
        b, q, _ = query.shape
        pixel = _pixel_fractions(sizes, self.num_heads, self.num_points, query.device)
        spread = (b, q, self.num_heads, self.num_levels * self.num_points)
        if torch.is_grad_enabled() or is_recorded():
            buffers = None
            values = linear_of(self.value_proj, value)
            locations, weights = self._samples(query + position, reference, pixel)
        else:
            buffers = Buffers() if buffers is None else buffers
            values = _by_chunk(self.value_proj, value, buffers)
            locations, weights = self._samples_by_chunk(query, position, reference, pixel, buffers)
        values = values.unflatten(-1, (self.num_heads, -1))  # (B, S, M, C/M)
        out = deformable_attention(values, sizes, locations.view(*spread, 2), weights.view(spread))
        if buffers is None:
            return linear_of(self.output_proj, out)
        return _by_chunk(self.output_proj, out, buffers)  # over the values

    def _samples_by_chunk(
        self,
        query: Tensor,
        position: Tensor,
        reference: Tensor,
        pixel: Tensor,
        buffers: Buffers,
    ) -> tuple[Tensor, Tensor]:
        """Return `_samples` of all queries (B, Q, C), in buffers, without sums of all with their
        positions."""
        dtype = torch.promote_types(query.dtype, torch.float32)
        samples = len(pixel) // 2
        shape = (*query.shape[:2], self.num_heads, samples // self.num_heads)
        locations = buffers.of("locations", query, (*shape[:2], 2 * samples), dtype)
        weights = buffers.of("weights", query, shape, dtype)
        for start in range(0, shape[1], count := _tokens_per_chunk(query)):
            part = slice(start, start + count)
            summed = query[:, part] + position[..., part, :]
            locations[:, part], weights[:, part] = self._samples(summed, reference[part], pixel)
        return locations, weights

    def _samples(self, query: Tensor, reference: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor]:
        """Return where queries look, and the attention weights there.

        Under autocast offsets are computed in 16 bits, which is enough for a few pixels, and
        locations in 32.

        Args:
            query: (B, q, C), with their positions.
            reference: (q, 2), (x, y) in 0..1.
            pixel: (M*L*P*2,), what a pixel is of the width and height of its level.

        Returns:
            locations (B, q, M*L*P*2), (x, y) in 0..1 on each level, and weights (B, q, M, L*P).
        """
        offsets = self._offsets(query, pixel)
        offsets = offsets.float() if offsets.dtype in (torch.bfloat16, torch.float16) else offsets
        locations = offsets + _repeat_pairs(reference.to(offsets.dtype), len(pixel) // 2)
        logits = linear_of(self.attention_weights, query).unflatten(-1, (self.num_heads, -1))
        return locations, _softmax(logits)

    def _offsets(self, query: Tensor, pixel: Tensor) -> Tensor:
        """Return offsets from the reference points, as `_samples` returns locations."""
        layer = self.sampling_offsets  # gives pixels of the level that is looked at
        if type(layer) is not nn.Linear or not need_not_be_called(layer):
            return layer(query) * pixel
        scaled = layer.weight * pixel[:, None], layer.bias * pixel
        return linear(query, *(t.to(query.dtype) for t in scaled))


def _by_chunk(layer: nn.Module, x: Tensor, buffers: Buffers) -> Tensor:
    """Return a linear layer's result (B, S, C) of tokens, in the buffer that all these share."""
    whole = x.new_empty(0)
    for start in range(0, x.shape[1], count := _tokens_per_chunk(x)):
        part = slice(start, start + count)
        result = linear_of(layer, x[:, part])
        if start == 0:  # the first tells the type
            shape = (*x.shape[:2], result.shape[-1])
            whole = buffers.of("projected", x, shape, result.dtype)
        whole[:, part] = result
    return whole


def _repeat_pairs(pairs: Tensor, count: int) -> Tensor:
    """Repeat (q, 2) along the last axis, (q, count*2); `Tensor.repeat` takes four times as long."""
    x, y = (column[:, None].expand(-1, count) for column in pairs.unbind(1))
    return torch.stack([x, y], -1).flatten(1)


def _tokens_per_chunk(tokens: Tensor) -> int:
    count = _TOKENS_PER_CHUNK.get(tokens.device.type, _TOKENS_PER_CHUNK_ELSEWHERE)
    return count if tokens.element_size() > 2 else 2 * count


def _softmax(logits: Tensor) -> Tensor:
    """Compute the softmax over the last axis, float32 at least."""
    if logits.device.type != "cpu" or torch.is_grad_enabled() or is_recorded():
        return logits.softmax(-1)
    # PyTorch's is slow for rows of a dozen: 2 % of an image of 800x1216, 3 % in bfloat16.
    logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
    powers = (logits - logits.amax(-1, keepdim=True)).exp_()
    return powers.div_(powers.sum(-1, keepdim=True))


def _pixel_fractions(
    sizes: Sequence[tuple[int, int]], heads: int, points: int, device: torch.device
) -> Tensor:
    """Return what a pixel is of the width and height of its level, for every sample, (M*L*P*2,)."""
    pixels = integers([n for h, w in sizes for n in (w, h)], device).view(-1, 2).float()
    return (1 / pixels)[:, None].expand(-1, points, -1).flatten().repeat(heads)


class DeformableEncoderLayer(ResidualLayer):
    """Deformable self-attention over all levels, then a feed-forward network; post-norm."""

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        dropout: float,
        num_levels: int,
        num_heads: int,
        num_points: int = 4,
    ):
        super().__init__(dropout, pre_norm=False)
        self.self_attn = DeformableAttention(dim, num_levels, num_heads, num_points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        position: Tensor,
        reference: Tensor,
        sizes: Sequence[tuple[int, int]],
        out: Tensor | None = None,
        buffers: Buffers | None = None,
    ) -> Tensor:
        """Map tokens x (B, S, C) with positions (S, C) and reference points (S, 2) to (B, S, C).

        Without gradients the result is written to `out`, which may be x, if it is given, and what
        is needed on the way to `buffers`.
        """
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            attended = self.self_attn(x, position, reference, x, sizes)
            return self._after_attention(x + self.dropout(attended))
        # Before what is freed, so that this leaves no gap below it.
        out = torch.empty_like(x) if out is None else out
        buffers = None if is_watched(self.self_attn) else buffers
        attended = self.self_attn(x, position, reference, x, sizes, buffers)
        # What follows works token by token: the wide hidden layer need not be whole in memory.
        parts = (t.flatten(0, 1).split(_tokens_per_chunk(x)) for t in (out, x, attended))
        for target, residual, change in zip(*parts):
            target.copy_(self._after_attention(residual + self.dropout(change)))
        return out

    def _after_attention(self, x: Tensor) -> Tensor:
        """Apply both norms and the feed-forward network between them, (..., C) to (..., C)."""
        return self.residual(self.norm1(x), self.norm2, self.feed_forward)


class DeformableEncoder(nn.Module):
    """A stack of deformable encoder layers without a final norm."""

    def __init__(self, num_layers: int, **layer_args: Any):
        super().__init__()
        self.layers = nn.ModuleList(DeformableEncoderLayer(**layer_args) for _ in range(num_layers))

    def forward(self, x: Tensor, position: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Encode the tokens of all levels.

        Args:
            x: (B, S, C), the levels' pixels one level after the other.
            position: (S, C).
            sizes: (H, W) of every level.

        Returns:
            (B, S, C).
        """
        reference = pixel_centres(sizes, x.device)
        buffers, out = Buffers(), None
        for layer in self.layers:
            x = layer(x, position, reference, sizes, out, buffers)
            # What is nobody else's is overwritten by the next layer.
            out = None if is_watched(layer) else x
        return x


def pixel_centres(sizes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """Return centres of all pixels of all levels, (S, 2) as (x, y) in 0..1."""
    levels = []
    for h, w in sizes:
        y = (torch.arange(h, dtype=torch.float32, device=device) + 0.5) / h
        x = (torch.arange(w, dtype=torch.float32, device=device) + 0.5) / w
        levels.append(torch.stack([x.expand(h, w), y[:, None].expand(h, w)], -1).view(-1, 2))
    return torch.cat(levels)
