"""What losses are divided by, where a step passes the model in parts."""

from collections.abc import Sequence

import torch
from detectron2.utils import comm
from torch import Tensor, distributed


class StepTotals:
    """Targets of all parts of a step, known before the first part is.

    Losses of the parts, divided by them, add up to the loss of the whole as one batch.

    Args:
        labels: of every input of this process in the step, (N,) each.
        masks: what mask losses are divided by, see `mean_masks`.
    """

    def __init__(self, labels: Sequence[Tensor], masks: Tensor | float) -> None:
        self.labels = labels
        self.masks = masks
        self._class_weights: dict[int, Tensor] = {}

    def class_weight(self, num_queries: int, weights: Tensor) -> Tensor:
        """Return the weights of the classes of all queries, added up over the inputs.

        Matching gives each target a query as long as there are any, so the sum does not depend on
        which. Of more targets than queries, the classes count by their share.

        Args:
            num_queries: Q, of an input.
            weights: (K+1,), of the classes and no-object.
        """
        if num_queries in self._class_weights:  # of another layer or part
            return self._class_weights[num_queries]
        total = weights.new_zeros(())
        for labels in self.labels:
            matched = weights[labels.to(weights.device)]
            if len(matched) > num_queries:
                total = total + matched.mean() * num_queries
            else:
                total = total + matched.sum() + weights[-1] * (num_queries - len(matched))
        self._class_weights[num_queries] = total
        return total


def mean_masks(counts: Sequence[int], device: torch.device) -> Tensor:
    """Return the targets per process, averaged over the processes, at least 1.

    Args:
        counts: targets of every input of this process; each process has to call this.
    """
    count = torch.tensor(sum(counts), dtype=torch.float32, device=device)
    world = comm.get_world_size()
    if world > 1:
        distributed.all_reduce(count)
    return (count / world).clamp(min=1)
