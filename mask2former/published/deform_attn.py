"""Deformable attention with the published arguments and call, on our operator and parameters.

Source: Deformable DETR, Zhu et al. 2021, equation 3; for reference boxes its appendix A.4.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..layers import DeformableAttention
from ..ops.deform_attn import deformable_attention, deformable_attention_grid_sample

Shapes = Tensor | Sequence[Sequence[int]]  # (H, W) of every level, (L, 2)


class MSDeformAttn(DeformableAttention):
    """Every query looks at a few learned locations around its reference point on every level.

    Args:
        d_model: channels, divisible by n_heads.
        n_levels: feature maps looked at.
        n_heads: attention heads.
        n_points: locations per head and level.
    """

    im2col_step = 128  # read by others; there is nothing that it changes

    def __init__(self, d_model: int = 256, n_levels: int = 4, n_heads: int = 8, n_points: int = 4):
        super().__init__(d_model, n_levels, n_heads, n_points)
        self.d_model = d_model
        self.n_levels, self.n_heads, self.n_points = n_levels, n_heads, n_points

    def _reset_parameters(self) -> None:
        self.reset_parameters()

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        input_flatten: Tensor,
        input_spatial_shapes: Shapes,
        input_level_start_index: Tensor | None = None,
        input_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend around the reference points.

        Args:
            query: (B, Q, C), with their positions.
            reference_points: (B, Q, L, 2), (x, y) in 0..1 on each level, or (B, Q, L, 4), boxes
                (x, y, w, h) about these: offsets are then fractions of half a box.
            input_flatten: (B, S, C), the levels' pixels one level after the other.
            input_spatial_shapes: (L, 2), (H, W) of the levels. A tensor on a GPU is waited for.
            input_level_start_index: (L,); follows from the shapes and is not read.
            input_padding_mask: (B, S), bool, True at pixels that count as zeros.

        Returns:
            (B, Q, C).

        Raises:
            ValueError: the reference points have neither 2 nor 4 coordinates, or the shapes do not
                fit the pixels.
        """
        sizes = level_sizes(input_spatial_shapes)
        value = self.value_proj(input_flatten)
        if input_padding_mask is not None:
            value = value.masked_fill(input_padding_mask[..., None], 0.0)
        heads = (self.n_heads, self.n_levels, self.n_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*heads, 2))  # (B, Q, M, L, P, 2)
        weights = self.attention_weights(query).unflatten(-1, (self.n_heads, -1)).softmax(-1)
        out = deformable_attention(
            value.unflatten(-1, (self.n_heads, -1)),
            sizes,
            self._locations(reference_points, offsets, sizes),
            weights.unflatten(-1, heads[1:]),
        )
        return self.output_proj(out)

    def _locations(
        self, reference: Tensor, offsets: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return where to look, (B, Q, M, L, P, 2), (x, y) in 0..1 on each level."""
        offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
        around = reference[:, :, None, :, None].to(offsets.dtype)  # (B, Q, 1, L, 1, 2 or 4)
        if reference.shape[-1] == 2:
            pixels = offsets.new_tensor([(w, h) for h, w in sizes])[
                :, None
            ]  # of a level, (L, 1, 2)
            return around + offsets / pixels
        if reference.shape[-1] == 4:
            return around[..., :2] + offsets / self.n_points * around[..., 2:] * 0.5
        raise ValueError(
            f"MSDeformAttn: the last axis of reference_points must be (x, y) or (x, y, w, h), got "
            f"{tuple(reference.shape)}."
        )


class MSDeformAttnFunction:
    """The published entry to the operator itself, differentiable once."""

    @staticmethod
    def apply(
        value: Tensor,
        value_spatial_shapes: Shapes,
        value_level_start_index: Tensor | None,
        sampling_locations: Tensor,
        attention_weights: Tensor,
        im2col_step: int = 128,
    ) -> Tensor:
        """Sum samples; see `mask2former.ops.deform_attn.deformable_attention`.

        Args:
            value: (B, S, M, C/M).
            value_spatial_shapes: (L, 2).
            sampling_locations: (B, Q, M, L, P, 2), (x, y) in 0..1 on each level.
            attention_weights: (B, Q, M, L, P).
            value_level_start_index, im2col_step: not read.

        Returns:
            (B, Q, C).
        """
        sizes = level_sizes(value_spatial_shapes)
        return deformable_attention(value, sizes, sampling_locations, attention_weights)


def ms_deform_attn_core_pytorch(
    value: Tensor,
    value_spatial_shapes: Shapes,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Do the same in plain PyTorch, which is slow; see `MSDeformAttnFunction.apply`."""
    sizes = level_sizes(value_spatial_shapes)
    return deformable_attention_grid_sample(value, sizes, sampling_locations, attention_weights)


def level_sizes(shapes: Shapes) -> list[tuple[int, int]]:
    """Return (H, W) of the levels as Python integers."""
    pairs = shapes.tolist() if isinstance(shapes, Tensor) else shapes
    return [(int(h), int(w)) for h, w in pairs]
