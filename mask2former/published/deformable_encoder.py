"""The deformable encoder with the published arguments and calls, on our operator and parameters.

Source: Deformable DETR, Zhu et al. 2021, sections 4.1 and A.4.
"""

import torch
from torch import Tensor, nn

from ..layers.deformable import pixel_centres
from .deform_attn import MSDeformAttn, Shapes, level_sizes
from .layers import get_activation_fn, get_clones


class MSDeformAttnTransformerEncoderLayer(nn.Module):
    """Deformable self-attention over all levels, then a feed-forward network; post-norm.

    Args:
        d_model: channels, divisible by n_heads.
        d_ffn: hidden width of the feed-forward network.
        dropout: of what the attention gives, of hidden units and of what the network gives.
        activation: "relu" or "gelu".
        n_levels, n_heads, n_points: see `MSDeformAttn`.
    """

    def __init__(
        self,
        d_model: int = 256,
        d_ffn: int = 1024,
        dropout: float = 0.1,
        activation: str = "relu",
        n_levels: int = 4,
        n_heads: int = 8,
        n_points: int = 4,
    ):
        super().__init__()
        self.self_attn = MSDeformAttn(d_model, n_levels, n_heads, n_points)
        self.dropout1 = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.linear1 = nn.Linear(d_model, d_ffn)
        self.activation = get_activation_fn(activation)
        self.dropout2 = nn.Dropout(dropout)
        self.linear2 = nn.Linear(d_ffn, d_model)
        self.dropout3 = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(d_model)

    @staticmethod
    def with_pos_embed(tensor: Tensor, pos: Tensor | None) -> Tensor:
        """Return the sum, or the tensor alone."""
        return tensor if pos is None else tensor + pos

    def forward_ffn(self, src: Tensor) -> Tensor:
        """Apply the feed-forward network, its residual and norm to (B, S, C)."""
        hidden = self.dropout2(self.activation(self.linear1(src)))
        return self.norm2(src + self.dropout3(self.linear2(hidden)))

    def forward(
        self,
        src: Tensor,
        pos: Tensor | None,
        reference_points: Tensor,
        spatial_shapes: Shapes,
        level_start_index: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Map pixels src (B, S, C) with positions pos (B, S, C) to (B, S, C).

        The others are those of `MSDeformAttn.forward`.
        """
        query = self.with_pos_embed(src, pos)
        attended = self.self_attn(
            query, reference_points, src, spatial_shapes, level_start_index, padding_mask
        )
        return self.forward_ffn(self.norm1(src + self.dropout1(attended)))


class MSDeformAttnTransformerEncoder(nn.Module):
    """A stack of encoder layers without a final norm.

    Args:
        encoder_layer: is copied for each layer, with its weights.
        num_layers: layers.
    """

    def __init__(self, encoder_layer: nn.Module, num_layers: int):
        super().__init__()
        self.layers = get_clones(encoder_layer, num_layers)
        self.num_layers = num_layers

    @staticmethod
    def get_reference_points(
        spatial_shapes: Shapes, valid_ratios: Tensor, device: torch.device
    ) -> Tensor:
        """Return where the pixels of all levels are on each level, (B, S, L, 2), (x, y) in 0..1.

        Args:
            spatial_shapes: (L, 2), (H, W) of the levels.
            valid_ratios: (B, L, 2), what of the width and height of each level is no padding.
        """
        sizes = level_sizes(spatial_shapes)
        pixels = torch.tensor([h * w for h, w in sizes], device=device)
        own = valid_ratios.repeat_interleave(pixels, 1)  # (B, S, 2), of the pixel's own level
        return (pixel_centres(sizes, device) / own)[:, :, None] * valid_ratios[:, None]

    def forward(
        self,
        src: Tensor,
        spatial_shapes: Shapes,
        level_start_index: Tensor | None,
        valid_ratios: Tensor,
        pos: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Encode the pixels src (B, S, C) of all levels; valid_ratios as above, the others as a
        layer's."""
        reference = self.get_reference_points(spatial_shapes, valid_ratios, src.device)
        for layer in self.layers:
            src = layer(src, pos, reference, spatial_shapes, level_start_index, padding_mask)
        return src
