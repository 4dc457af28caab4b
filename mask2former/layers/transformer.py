"""Transformer layers, batch first, built from multi-head attention.

The decoders with masked attention stack `CrossAttentionLayer`, `SelfAttentionLayer` and `FFNLayer`;
`TransformerEncoder` and `TransformerDecoder` are those of DETR, for MaskFormer's own architectures.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import UserError
from .attention import MultiheadAttention, attention_of
from .linear import linear_of, relu_of, xavier_matrices_


class ResidualLayer(nn.Module):
    """Branches with residuals around them, each with a norm after the sum or, `pre_norm`, before.

    Args:
        dropout: probability of dropping a channel of a branch's result while training.
        pre_norm: normalise what enters a branch instead of the sum after it.
    """

    linear1: nn.Linear
    linear2: nn.Linear

    def __init__(self, dropout: float, pre_norm: bool):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def residual(self, x: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """Add a branch's result to x, (B, Q, C) like x."""
        if self.pre_norm:
            return x + self.dropout(branch(norm(x)))
        return norm(x + self.dropout(branch(x)))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Apply `linear1`, a ReLU and `linear2`, (B, Q, C) to (B, Q, C)."""
        return linear_of(self.linear2, self.dropout(relu_of(self.linear1, x)))


class SelfAttentionLayer(ResidualLayer):
    """Queries attend to each other."""

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0, pre_norm: bool = False):
        super().__init__(dropout, pre_norm)
        self.self_attn = MultiheadAttention(dim, num_heads, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, position: Tensor, attend: Tensor | None = None) -> Tensor:
        """Map queries x (B, Q, C) with their positions (B or 1, Q, C) to (B, Q, C).

        `attend` is broadcastable to (B, M, Q, Q), True where a query may look at another.
        """
        return self.residual(
            x,
            self.norm,
            lambda y: attention_of(self.self_attn, y + position, y + position, y, attend),
        )


class CrossAttentionLayer(ResidualLayer):
    """Queries attend to pixels under a mask.

    Source: Mask2Former, Cheng et al. 2022, section 3.2.1 (masked attention).
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0, pre_norm: bool = False):
        super().__init__(dropout, pre_norm)
        self.multihead_attn = MultiheadAttention(dim, num_heads, dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, attend: Tensor | None
    ) -> Tensor:
        """Update the queries from pixels.

        Args:
            x: queries, (B, Q, C).
            position: of the queries, (B or 1, Q, C).
            key: pixel features with their positions added, (B, S, C).
            value: pixel features, (B, S, C).
            attend: bool, broadcastable to (B, M, Q, S), True where a query may look.

        Returns:
            (B, Q, C).
        """
        return self.residual(
            x,
            self.norm,
            lambda y: attention_of(self.multihead_attn, y + position, key, value, attend),
        )


class FFNLayer(ResidualLayer):
    """Two linear layers with a ReLU between, for every query by itself."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float = 0.0, pre_norm: bool = False):
        super().__init__(dropout, pre_norm)
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Q, C) to (B, Q, C)."""
        return self.residual(x, self.norm, self.feed_forward)


class _EncoderOrDecoderLayer(ResidualLayer):
    """Attention and a feed-forward network, one residual each.

    Source: DETR, Carion et al. 2020, appendix A.3.

    Args:
        dim: channels, divisible by num_heads.
        num_heads: attention heads.
        ffn_dim: hidden width of the feed-forward network.
        dropout: of attention weights, hidden units and all branches.
        pre_norm: normalise what enters a branch instead of the sum after it.
    """

    attentions: ClassVar[tuple[str, ...]]
    self_attn: MultiheadAttention
    norm1: nn.LayerNorm
    norm2: nn.LayerNorm

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float, pre_norm: bool):
        super().__init__(dropout, pre_norm)
        for name in self.attentions:
            self.add_module(name, MultiheadAttention(dim, num_heads, dropout))
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        for i in range(1, len(self.attentions) + 2):
            self.add_module(f"norm{i}", nn.LayerNorm(dim))

    def self_attention(self, x: Tensor, position: Tensor, attend: Tensor | None = None) -> Tensor:
        """Apply the first branch; the arguments are those of `TransformerEncoderLayer.forward`."""
        return self.residual(
            x,
            self.norm1,
            lambda y: attention_of(self.self_attn, y + position, y + position, y, attend),
        )


class TransformerEncoderLayer(_EncoderOrDecoderLayer):
    """Pixels attend to each other, then a feed-forward network."""

    attentions = ("self_attn",)

    def forward(self, x: Tensor, position: Tensor, attend: Tensor | None = None) -> Tensor:
        """Map tokens x (B, S, C) with positions (S, C) to (B, S, C).

        `attend` is broadcastable to (B, M, S, S), True where a token may look at another.
        """
        x = self.self_attention(x, position, attend)
        return self.residual(x, self.norm2, self.feed_forward)


class TransformerDecoderLayer(_EncoderOrDecoderLayer):
    """Queries attend to each other, then to pixels, then a feed-forward network."""

    attentions = ("self_attn", "multihead_attn")
    multihead_attn: MultiheadAttention
    norm3: nn.LayerNorm

    def forward(
        self, x: Tensor, position: Tensor, key: Tensor, value: Tensor, attend: Tensor | None = None
    ) -> Tensor:
        """Update the queries; the arguments are those of `CrossAttentionLayer.forward`."""
        x = self.self_attention(x, position)
        x = self.residual(
            x,
            self.norm2,
            lambda y: attention_of(self.multihead_attn, y + position, key, value, attend),
        )
        return self.residual(x, self.norm3, self.feed_forward)


class _Stack(nn.Module):
    """Layers of one kind, and a norm.

    Args:
        num_layers: may be 0 in an encoder.
        dim, num_heads, ffn_dim, dropout, pre_norm: see `TransformerEncoderLayer`.
    """

    kind: ClassVar[type[_EncoderOrDecoderLayer]]
    min_layers: ClassVar[int] = 0
    is_normalized: ClassVar[bool] = False  # whatever pre_norm is

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
        if num_layers < self.min_layers:
            raise UserError(
                f"{type(self).__name__}: needs at least {self.min_layers} layer, got {num_layers}."
            )
        self.layers = nn.ModuleList(
            self.kind(dim, num_heads, ffn_dim, dropout, pre_norm) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim) if pre_norm or self.is_normalized else nn.Identity()
        xavier_matrices_(self)


class TransformerEncoder(_Stack):
    """A stack of encoder layers, with a norm after the last only if they are pre-norm."""

    kind = TransformerEncoderLayer

    def forward(self, x: Tensor, position: Tensor, attend: Tensor | None = None) -> Tensor:
        """Map tokens x (B, S, C) with positions (S, C) to (B, S, C)."""
        for layer in self.layers:
            x = layer(x, position, attend)
        return self.norm(x)


class TransformerDecoder(_Stack):
    """A stack of decoder layers whose outputs all pass one norm."""

    kind = TransformerDecoderLayer
    min_layers = 1
    is_normalized = True

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
