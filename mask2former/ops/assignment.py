"""Minimum-cost assignment of predictions to targets."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

# For each image, the matched queries and their targets, two int64 tensors of equal length.
Pairs = list[tuple[Tensor, Tensor]]

# Stands for costs that are not finite: worse than any real cost, small enough to be added up.
_FORBIDDEN = 1e6


def assign(costs: Sequence[Tensor]) -> Pairs:
    """Solve many assignment problems with one transfer to the host.

    A NaN or infinite cost does not raise, as it would in SciPy and end a training for one bad
    image: it counts as very large, with a warning.

    Args:
        costs: matrices (Q, N), each of its own size; N may be 0 or exceed Q.

    Returns:
        For every matrix the chosen rows, ascending, and their columns: two int64 tensors of
        min(Q, N) entries on the CPU.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and for training only

    if not costs:
        return []
    flat = torch.cat([c.detach().float().flatten() for c in costs]).cpu()
    finite = flat.isfinite()
    if not finite.all():
        logger.warning(
            "%d of %d matching costs are not finite; they count as very large. "
            "The predictions hold NaN or infinite values.",
            int((~finite).sum()),
            flat.numel(),
        )
        flat = torch.where(finite, flat, torch.full_like(flat, _FORBIDDEN))
    pairs: Pairs = []
    for matrix, size in zip(flat.split([c.numel() for c in costs]), [c.shape for c in costs]):
        rows, columns = linear_sum_assignment(matrix.view(size).numpy())
        pairs.append((torch.as_tensor(rows).long(), torch.as_tensor(columns).long()))
    return pairs
