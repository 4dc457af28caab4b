"""Masks of EoMT's queries that fade block by block while it is trained.

Source: Your ViT is Secretly an Image Segmentation Model, Kerssies et al. 2025, section 3.3.
"""

from collections.abc import Iterator

from detectron2.engine import HookBase
from torch import nn

from ..modeling import EoMTHead

_POWER = 0.9  # as that of the learning rate's schedule


def mask_probs(progress: float, num_blocks: int) -> list[float]:
    """Return for each block the probability that a query sees its mask only.

    A training is cut into as many parts as there are blocks, and two more: in the first all
    probabilities are 1, then one block after the other goes to 0 as a polynomial, and in the last
    all are 0.

    Args:
        progress: which fraction of the training is done, 0 to 1.
    """
    parts = num_blocks + 2
    done = (min(max(progress * parts - 1 - i, 0.0), 1.0) for i in range(num_blocks))
    return [(1 - x) ** _POWER for x in done]


class MaskAnnealing(HookBase):
    """Set the probabilities of every `EoMTHead` before each iteration.

    They follow from the iteration, so a resumed run goes on where it was; checkpoints hold them
    with the weights, at the end as zeros.
    """

    def before_step(self) -> None:
        self._set(self.trainer.iter)

    def after_step(self) -> None:
        self._set(self.trainer.iter + 1)  # what a checkpoint of this iteration says

    def _set(self, iteration: int) -> None:
        for head in _heads(self.trainer.model):
            progress = iteration / max(self.trainer.max_iter, 1)
            head.set_mask_probs(mask_probs(progress, len(head.blocks)))


def has_masks(model: nn.Module) -> bool:
    """Tell whether there is an `EoMTHead` in a model."""
    return any(True for _ in _heads(model))


def _heads(model: nn.Module) -> Iterator[EoMTHead]:
    return (module for module in model.modules() if isinstance(module, EoMTHead))
