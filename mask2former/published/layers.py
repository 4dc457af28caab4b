"""Transformer layers with the published arguments and calls, length first.

They are built on nn.MultiheadAttention; their parameters are those of `mask2former.layers`.
"""

import copy
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import xavier_matrices_

_ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "glu": F.glu}


def get_activation_fn(activation: str) -> Callable[[Tensor], Tensor]:
    """Return the function of that name.

    Raises:
        ValueError: there is none.
    """
    if activation not in _ACTIVATIONS:
        raise ValueError(f"activation: expected one of {list(_ACTIVATIONS)}, got {activation!r}.")
    return _ACTIVATIONS[activation]


def get_clones(module: nn.Module, count: int) -> nn.ModuleList:
    """Return copies of a module."""
    return nn.ModuleList(copy.deepcopy(module) for _ in range(count))


class _Layer(nn.Module):
    """What the layers share: a branch with a residual around it, a norm, and an activation.

    Args:
        dropout: probability of dropping attention weights, hidden units and what a branch gives.
        activation: "relu", "gelu" or "glu".
        normalize_before: normalise what enters the branch instead of the sum after it.
    """

    norm: nn.LayerNorm
    _branch: Callable[..., Tensor]  # takes queries and what else `forward` takes

    def __init__(self, dropout: float, activation: str, normalize_before: bool):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.normalize_before = normalize_before
        self.activation = get_activation_fn(activation)

    def _finish(self, d_model: int) -> None:
        """Add the norm, which is last in checkpoints, and draw the weights."""
        self.norm = nn.LayerNorm(d_model)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        xavier_matrices_(self)

    @staticmethod
    def with_pos_embed(tensor: Tensor, pos: Tensor | None) -> Tensor:
        """Return the sum, or the tensor alone."""
        return tensor if pos is None else tensor + pos

    def forward_post(self, tgt: Tensor, *args: Tensor | None) -> Tensor:
        """Do what `forward` does, with the norm after the sum."""
        return self.norm(tgt + self.dropout(self._branch(tgt, *args)))

    def forward_pre(self, tgt: Tensor, *args: Tensor | None) -> Tensor:
        """Do what `forward` does, with the norm before the branch."""
        return tgt + self.dropout(self._branch(self.norm(tgt), *args))

    def _update(self, tgt: Tensor, *args: Tensor | None) -> Tensor:
        update = self.forward_pre if self.normalize_before else self.forward_post
        return update(tgt, *args)


def _attend(
    attention: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    key_padding_mask: Tensor | None,
) -> Tensor:
    """Attend; weights are computed only where a hook may look at them."""
    return attention(
        query,
        key,
        value,
        attn_mask=mask,
        key_padding_mask=key_padding_mask,
        need_weights=bool(attention._forward_hooks),
    )[0]


class SelfAttentionLayer(_Layer):
    """Queries attend to each other.

    Args:
        d_model: channels C.
        nhead: attention heads.
        dropout, activation, normalize_before: see `_Layer`.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dropout: float = 0.0,
        activation: str = "relu",
        normalize_before: bool = False,
    ):
        super().__init__(dropout, activation, normalize_before)
        self.self_attn = nn.MultiheadAttention(d_model, nhead, dropout=dropout)
        self._finish(d_model)

    def forward(
        self,
        tgt: Tensor,
        tgt_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Update queries tgt (Q, B, C).

        Args:
            tgt_mask: (Q, Q) or (B*M, Q, Q), bool, True where a query may not look, or float, added.
            tgt_key_padding_mask: (B, Q), bool, True for queries that nobody looks at.
            query_pos: (Q, B, C), positions.
        """
        return self._update(tgt, tgt_mask, tgt_key_padding_mask, query_pos)

    def _branch(
        self,
        x: Tensor,
        mask: Tensor | None,
        key_padding_mask: Tensor | None,
        query_pos: Tensor | None,
    ) -> Tensor:
        query = self.with_pos_embed(x, query_pos)
        return _attend(self.self_attn, query, query, x, mask, key_padding_mask)


class CrossAttentionLayer(_Layer):
    """Queries attend to pixels; the arguments are those of `SelfAttentionLayer`."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dropout: float = 0.0,
        activation: str = "relu",
        normalize_before: bool = False,
    ):
        super().__init__(dropout, activation, normalize_before)
        self.multihead_attn = nn.MultiheadAttention(d_model, nhead, dropout=dropout)
        self._finish(d_model)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        memory_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
    ) -> Tensor:
        """Update queries tgt (Q, B, C) from pixels memory (S, B, C).

        Args:
            memory_mask: (Q, S) or (B*M, Q, S), bool, True where a query may not look, or float,
                added.
            memory_key_padding_mask: (B, S), bool, True at pixels that nobody looks at.
            pos: (S, B, C), positions of the pixels.
            query_pos: (Q, B, C), positions of the queries.
        """
        return self._update(tgt, memory, memory_mask, memory_key_padding_mask, pos, query_pos)

    def _branch(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        key_padding_mask: Tensor | None,
        pos: Tensor | None,
        query_pos: Tensor | None,
    ) -> Tensor:
        query, key = self.with_pos_embed(x, query_pos), self.with_pos_embed(memory, pos)
        return _attend(self.multihead_attn, query, key, memory, mask, key_padding_mask)


class FFNLayer(_Layer):
    """A feed-forward network for every query.

    Args:
        d_model: channels C.
        dim_feedforward: hidden width.
        dropout, activation, normalize_before: see `_Layer`.
    """

    def __init__(
        self,
        d_model: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.0,
        activation: str = "relu",
        normalize_before: bool = False,
    ):
        super().__init__(dropout, activation, normalize_before)
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        hidden = dim_feedforward // 2 if activation == "glu" else dim_feedforward
        self.linear2 = nn.Linear(hidden, d_model)
        self._finish(d_model)

    def forward(self, tgt: Tensor) -> Tensor:
        """Map queries (Q, B, C) to (Q, B, C)."""
        return self._update(tgt)

    def _branch(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))
