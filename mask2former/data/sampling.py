"""How often the records of the training data are drawn."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from torch import Tensor
from torch.utils.data import Sampler

from ..errors import UserError

Record = dict[str, Any]


def choose_sampler(
    cfg: CfgNode, records: Sequence[Record], factors: Tensor | None = None
) -> Callable[[int], Sampler]:
    """Return what makes the sampler that DATALOADER.SAMPLER_TRAIN names, from a seed.

    Args:
        records: of the training set, N.
        factors: (N,), how often each record comes in an epoch, in place of what the config says;
            None for that.

    Raises:
        UserError: an unknown name.
    """
    name, size = cfg.DATALOADER.SAMPLER_TRAIN, len(records)
    if factors is None and name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            records, cfg.DATALOADER.REPEAT_THRESHOLD
        )
    if factors is not None:
        return lambda seed: RepeatFactorTrainingSampler(factors, seed=seed)
    if name == "TrainingSampler":
        return lambda seed: TrainingSampler(size, seed=seed)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.RANDOM_SUBSET_RATIO
        return lambda seed: RandomSubsetTrainingSampler(
            size, ratio, seed_shuffle=seed, seed_subset=seed
        )
    raise UserError(
        "DATALOADER.SAMPLER_TRAIN must be TrainingSampler, RepeatFactorTrainingSampler or "
        f"RandomSubsetTrainingSampler, not {name!r}"
    )


def mix_clips(records: list[Record], ratio: float) -> tuple[list[Record], Tensor | None]:
    """Return which records to draw and how often, where some are of videos and some of images.

    Args:
        records: those of videos have "file_names".
        ratio: the fraction of images among the clips, 0 to 1; -1 for one clip of each record.

    Returns:
        the records to use, and how often each comes where some should come more often.

    Raises:
        UserError: another ratio.
    """
    if ratio != -1 and not 0 <= ratio <= 1:
        raise UserError(f"INPUT.PSEUDO_CLIP.RATIO: expected 0 to 1, or -1, got {ratio}")
    is_image = torch.tensor(["file_names" not in record for record in records])
    images = int(is_image.sum())
    videos = len(records) - images
    if ratio == -1 or not images or not videos:
        return records, None
    if ratio in (0, 1):
        return [record for record in records if ("file_names" not in record) == ratio], None
    weights = torch.where(is_image, ratio / images, (1 - ratio) / videos)
    return records, weights / weights.min()
