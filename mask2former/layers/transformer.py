"""Transformer encoder and decoder as in DETR, batch first, for MaskFormer's own architectures.

Source: DETR, Carion et al. 2020, appendix A.3. The decoders with masked attention are built from
`attention.py` instead.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .attention import MultiheadAttention
from .initialisation import xavier_matrices_
from .linear import linear_of, relu_of


class _Layer(nn.Module):
    """What encoder and decoder layers share: residuals, the feed-forward network, dropout."""

    linear1: nn.Linear
    linear2: nn.Linear

    def __init__(self, dropout: float, pre_norm: bool):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def _residual(self, x: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(branch(norm(x)))
        return norm(x + self.dropout(branch(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return linear_of(self.linear2, self.dropout(relu_of(self.linear1, x)))


class TransformerEncoderLayer(_Layer):
    """Pixels attend to each other, then a feed-forward network.

    Args:
        dim: channels, divisible by num_heads.
        num_heads: attention heads.
        ffn_dim: hidden width of the feed-forward network.
        dropout: of attention weights, hidden units and both branches.
        pre_norm: normalise what enters a branch instead of the sum after it.
    """

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float, pre_norm: bool):
        super().__init__(dropout, pre_norm)
        self.self_attn = MultiheadAttention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor, attend: Tensor | None = None) -> Tensor:
        """Map tokens x (B, S, C) with positions (S, C) to (B, S, C).

        `attend` is broadcastable to (B, M, S, S), True where a token may look at another.
        """

        def attention(x: Tensor) -> Tensor:
            return self.self_attn(x + position, x + position, x, attend)

        x = self._residual(x, self.norm1, attention)
        return self._residual(x, self.norm2, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Queries attend to each other, then to pixels, then a feed-forward network.

    Args: see `TransformerEncoderLayer`.
    """

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float, pre_norm: bool):
        super().__init__(dropout, pre_norm)
        self.self_attn = MultiheadAttention(dim, num_heads, dropout)
        self.multihead_attn = MultiheadAttention(dim, num_heads, dropout)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, attend: Tensor | None = None
    ) -> Tensor:
        """Update the queries; the arguments are those of `CrossAttentionLayer.forward`."""

        def self_attention(x: Tensor) -> Tensor:
            return self.self_attn(x + position, x + position, x)

        def cross_attention(x: Tensor) -> Tensor:
            return self.multihead_attn(x + position, key, value, attend)

        x = self._residual(x, self.norm1, self_attention)
        x = self._residual(x, self.norm2, cross_attention)
        return self._residual(x, self.norm3, self._feed_forward)


class TransformerEncoder(nn.Module):
    """A stack of encoder layers, with a norm after the last only if they are pre-norm.

    Args:
        num_layers: may be 0.
        dim, num_heads, ffn_dim, dropout, pre_norm: see `TransformerEncoderLayer`.
    """

    def __init__(
        self,
        num_layers: int,
        dim: int,
        num_heads: int,
        ffn_dim: int,
        dropout: float = 0.0,
        pre_norm: bool = False,
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(dim, num_heads, ffn_dim, dropout, pre_norm)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim) if pre_norm else nn.Identity()
        xavier_matrices_(self)

    def forward(self, x: Tensor, position: Tensor, attend: Tensor | None = None) -> Tensor:
        """Map tokens x (B, S, C) with positions (S, C) to (B, S, C)."""
        for layer in self.layers:
            x = layer(x, position, attend)
        return self.norm(x)


class TransformerDecoder(nn.Module):
    """A stack of decoder layers whose outputs all pass one norm.

    Args:
        num_layers: at least 1.
        dim, num_heads, ffn_dim, dropout, pre_norm: see `TransformerEncoderLayer`.
    """

    def __init__(
        self,
        num_layers: int,
        dim: int,
        num_heads: int,
        ffn_dim: int,
        dropout: float = 0.0,
        pre_norm: bool = False,
    ):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"TransformerDecoder: needs at least 1 layer, got {num_layers}.")
        self.layers = nn.ModuleList(
            TransformerDecoderLayer(dim, num_heads, ffn_dim, dropout, pre_norm)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        xavier_matrices_(self)

    def forward(
        self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, attend: Tensor | None = None
    ) -> Tensor:
        """Update the queries; the arguments are those of `CrossAttentionLayer.forward`.

        Returns:
            (L, B, Q, C), the normalised output of each of the L layers.
        """
        outputs = []
        for layer in self.layers:
            x = layer(x, position, key, value, attend)
            outputs.append(x)
        return self.norm(torch.stack(outputs))
