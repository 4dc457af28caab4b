"""Multi-head attention and the residual blocks of the transformer decoder, batch first."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.linear import linear
from .linear import linear_of, relu_of


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention with the parameters of `torch.nn.MultiheadAttention`.

    Differs from that module in that it is batch first, takes one mask for all heads without
    copying it for each, and never has attention maps of several heads in memory.

    Args:
        dim: channels, divisible by num_heads.
        num_heads: attention heads.
        dropout: probability of dropping an attention weight while training.
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: {dim} channels do not split into {num_heads} heads; "
                "choose a width that is a multiple of the number of heads."
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attend: Tensor | None = None
    ) -> Tensor:
        """Attend from every query to the keys.

        Args:
            query: (B, Q, C).
            key: (B, S, C).
            value: (B, S, C).
            attend: bool, broadcastable to (B, M, Q, S); True where a query may look at a key.

        Returns:
            (B, Q, C).
        """
        wq, wk, wv = self.in_proj_weight.chunk(3)
        bq, bk, bv = self.in_proj_bias.chunk(3)
        projected = linear(query, wq, bq), linear(key, wk, bk), linear(value, wv, bv)
        query, key, value = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected
        )
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, attend, dropout)
        return linear_of(self.out_proj, out.transpose(1, 2).flatten(2))


class SelfAttentionLayer(nn.Module):
    """Queries attend to each other; residual, with the norm after (default) or before."""

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0, pre_norm: bool = False):
        super().__init__()
        self.self_attn = MultiheadAttention(dim, num_heads, dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """Map queries x (B, Q, C) with their positions (B or 1, Q, C) to (B, Q, C)."""
        value = self.norm(x) if self.pre_norm else x
        key = value + position
        x = x + self.dropout(self.self_attn(key, key, value))
        return x if self.pre_norm else self.norm(x)


class CrossAttentionLayer(nn.Module):
    """Queries attend to pixels under a mask; residual, with the norm after or before.

    Source: Mask2Former, Cheng et al. 2022, section 3.2.1 (masked attention).
    """

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0, pre_norm: bool = False):
        super().__init__()
        self.multihead_attn = MultiheadAttention(dim, num_heads, dropout)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

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
        query = (self.norm(x) if self.pre_norm else x) + position
        x = x + self.dropout(self.multihead_attn(query, key, value, attend))
        return x if self.pre_norm else self.norm(x)


class FFNLayer(nn.Module):
    """Two linear layers with a ReLU between; residual, with the norm after or before."""

    def __init__(self, dim: int, hidden_dim: int, dropout: float = 0.0, pre_norm: bool = False):
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Q, C) to (B, Q, C)."""
        hidden = self.dropout(relu_of(self.linear1, self.norm(x) if self.pre_norm else x))
        x = x + self.dropout(linear_of(self.linear2, hidden))
        return x if self.pre_norm else self.norm(x)
