"""Multi-head attention, batch first, with the parameters of torch's own module."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops.linear import linear
from ..ops.recording import is_recorded
from .linear import check_heads, linear_of


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention with the parameters of `torch.nn.MultiheadAttention`.

    Differs from that module in that it is batch first, takes one mask for all heads without
    copying it for each, and has attention maps in memory only if they are asked for.

    Args:
        dim: channels, divisible by num_heads.
        num_heads: attention heads.
        dropout: probability of dropping an attention weight while training.
    """

    batch_first = True

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        check_heads(self, dim, num_heads)
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attend: Tensor | None = None,
        need_weights: bool = True,
        average_attn_weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from every query to the keys.

        Args:
            query: (B, Q, C).
            key: (B, S, C).
            value: (B, S, C).
            attend: bool, broadcastable to (B, M, Q, S); True where a query may look at a key.
            need_weights: also return the attention weights.
            average_attn_weights: return their mean over the heads.

        Returns:
            (B, Q, C), and the weights before dropout, (B, Q, S), or (B, M, Q, S) if they are not
            averaged; None if they are not needed.
        """
        wq, wk, wv = self.in_proj_weight.chunk(3)
        bq, bk, bv = self.in_proj_bias.chunk(3)
        projected = linear(query, wq, bq), linear(key, wk, bk), linear(value, wv, bv)
        query, key, value = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected
        )
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, attend, dropout)
        out = linear_of(self.out_proj, out.transpose(1, 2).flatten(2))
        if not need_weights:
            return out, None
        weights = _attention_weights(query, key, attend)
        return out, weights.mean(1) if average_attn_weights else weights


def _attention_weights(query: Tensor, key: Tensor, attend: Tensor | None) -> Tensor:
    """Return softmax(q k / sqrt(d)) of every head, (B, M, Q, S), from (B, M, Q or S, d)."""
    logits = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    if attend is not None:
        logits = logits.masked_fill(~attend, float("-inf"))
    return logits.softmax(-1)


def attention_of(
    layer: nn.Module, query: Tensor, key: Tensor, value: Tensor, attend: Tensor | None = None
) -> Tensor:
    """Return what a `MultiheadAttention` attends to, (B, Q, C).

    Attention weights are computed only for forward hooks on the layer, which get them with the
    output, as those on `torch.nn.MultiheadAttention` do.
    """
    need_weights = bool(layer._forward_hooks) and not is_recorded()
    return layer(query, key, value, attend=attend, need_weights=need_weights)[0]
