"""Training on videos and images together, the images as clips."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.data import MetadataCatalog
from detectron2.data.samplers import RepeatFactorTrainingSampler

logger = logging.getLogger(__name__)

Record = dict[str, Any]


def take_over_classes(names: Sequence[str], parts: Sequence[Sequence[Record]]) -> list[Record]:
    """Join the records of datasets, with the classes of the first one for all.

    Classes are matched by name. Objects of classes that the first dataset lacks are left out, and
    so are the records of other datasets that have none left.

    Args:
        names: of registered datasets with ``thing_classes``.
        parts: their records.

    Raises:
        ValueError: a dataset shares no class with the first.
    """
    wanted = getattr(MetadataCatalog.get(names[0]), "thing_classes", None)
    joined = list(parts[0])
    for name, part in zip(names[1:], parts[1:]):
        classes = getattr(MetadataCatalog.get(name), "thing_classes", None)
        if classes == wanted or not classes or not wanted:
            joined += part
            continue
        new_ids = {i: wanted.index(c) for i, c in enumerate(classes) if c in wanted}
        if not new_ids:
            raise ValueError(
                f"DATASETS.TRAIN: {name} has no class of {names[0]}, whose classes are "
                f"{', '.join(wanted[:10])}{', ...' * (len(wanted) > 10)}"
            )
        logger.info("%s: %d of its %d classes are used", name, len(new_ids), len(classes))
        joined += [record for old in part if (record := _rename(old, new_ids))["annotations"]]
    return joined


def _rename(record: Record, new_ids: dict[int, int]) -> Record:
    annotations = [
        annotation | {"category_id": new_ids[annotation["category_id"]]}
        for annotation in record["annotations"]
        if annotation["category_id"] in new_ids
    ]
    return record | {"annotations": annotations}


def mix_clips(
    records: list[Record], ratio: float
) -> tuple[list[Record], RepeatFactorTrainingSampler | None]:
    """Say which records to draw and how often, where some are of videos and some of images.

    Args:
        records: those of videos have "file_names".
        ratio: the fraction of images among the clips, 0 to 1; -1 for one clip of each record.

    Returns:
        the records to use, and a sampler where some should come more often than others.

    Raises:
        ValueError: another ratio.
    """
    if ratio != -1 and not 0 <= ratio <= 1:
        raise ValueError(f"INPUT.PSEUDO_CLIP.RATIO: expected 0 to 1, or -1, got {ratio}")
    is_image = torch.tensor(["file_names" not in record for record in records])
    images = int(is_image.sum())
    videos = len(records) - images
    if ratio == -1 or not images or not videos:
        return records, None
    if ratio in (0, 1):
        return [record for record in records if ("file_names" not in record) == ratio], None
    weights = torch.where(is_image, ratio / images, (1 - ratio) / videos)
    return records, RepeatFactorTrainingSampler(weights / weights.min())
