"""Scaled dot-product attention, by what is fastest for few queries and many keys."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .recording import is_recorded

# Keys from which on PyTorch's own operator takes twice as long for 100 queries in bfloat16.
_MANY_KEYS = 2048
# Most weights of a head (Q*S) that may be in memory; for more, PyTorch's operator, which has none.
_MAX_WEIGHTS = 2**22


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_heads: int,
    attend: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend from every query to the keys, the channels split into heads.

    Args:
        query: (B, Q, C), C divisible by num_heads.
        key: (B, S, C).
        value: (B, S, C).
        num_heads: M.
        attend: bool, broadcastable to (B, M, Q, S); True where a query may look at a key, which is
            one at least for each.
        dropout: probability of dropping an attention weight.

    Returns:
        (B, Q, C), of the type of the inputs.
    """
    if attend is not None and _is_faster_by_head(query, key, attend) and not dropout:
        return _by_head(query, key, value, num_heads, attend)
    query, key, value = (
        x.unflatten(-1, (num_heads, -1)).transpose(1, 2) for x in (query, key, value)
    )
    out = F.scaled_dot_product_attention(query, key, value, attend, dropout)
    return out.transpose(1, 2).flatten(2)


def _is_faster_by_head(query: Tensor, key: Tensor, attend: Tensor) -> bool:
    queries, keys = query.shape[1], key.shape[1]
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and not torch.is_grad_enabled()
        and not is_recorded()
        and keys >= _MANY_KEYS
        and queries * keys <= _MAX_WEIGHTS
        and attend.dtype == torch.bool
        and attend.dim() == 4
        and attend.shape[1] == 1
    )


def _by_head(query: Tensor, key: Tensor, value: Tensor, num_heads: int, attend: Tensor) -> Tensor:
    """Attend with one head of one image after the other, without gradients.

    `attend` can be expanded to (B, 1, Q, S).
    """
    out = torch.empty_like(query)
    query = query * (query.shape[-1] // num_heads) ** -0.5
    hidden = attend.logical_not().expand(len(query), 1, query.shape[1], key.shape[1])
    for b in range(len(query)):
        bias = query.new_zeros(hidden.shape[2:]).masked_fill_(hidden[b, 0], -torch.inf)
        heads = (x[b].chunk(num_heads, -1) for x in (query, key, value, out))
        for q, k, v, target in zip(*heads):
            target.copy_(torch.addmm(bias, q, k.T).softmax(-1) @ v)
    return out
