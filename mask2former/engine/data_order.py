"""Resuming of a shuffled data stream where an interrupted run left it.

detectron2's training samplers make an endless stream of indices from one seed. With the same seed
and the indices used so far left out, a resumed run sees the images that the interrupted one would
have seen next: exactly so without loader workers and without aspect-ratio grouping, else to within
the few batches that workers and groups hold ready. Random numbers of augmentations and of the model
are not restored.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler

logger = logging.getLogger(__name__)


class _SkippingSampler(Sampler[int]):
    """The indices of another sampler without the first ``count``."""

    def __init__(self, sampler: Sampler[int], count: int) -> None:
        self.sampler = sampler
        self.count = count

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(iter(self.sampler), self.count, None)


def get_sampler_seed(data_loader: Any) -> int | None:
    """Return the seed of the stream behind ``data_loader``, or None where it has none."""
    source = _find_source(data_loader)
    return None if source is None else getattr(source.sampler, "_seed", None)


def resume_data_order(data_loader: Any, seed: int | None, count: int) -> bool:
    """Seed the stream behind ``data_loader`` anew and leave out what was used already.

    To be called before the loader is first iterated.

    Args:
        seed: what `get_sampler_seed` returned in the interrupted run.
        count: images that this process (not all processes) has used.

    Returns:
        False, with a line in the log, if the loader's sampler is of an unknown kind; its order then
        starts anew.
    """
    source = _find_source(data_loader)
    if seed is None or source is None or not hasattr(source.sampler, "_seed"):
        logger.info("The order of the training data starts anew: its sampler cannot be resumed")
        return False
    source.sampler._seed = seed  # detectron2's samplers offer no other way
    source.sampler = _SkippingSampler(source.sampler, count)
    return True


def _find_source(data_loader: Any) -> Any:
    """Return what holds the training sampler: the innermost ``dataset`` that has one."""
    found, node = None, getattr(data_loader, "dataset", None)
    while node is not None:
        if isinstance(getattr(node, "sampler", None), Sampler):
            found = node
        node = getattr(node, "dataset", None)
    return found
