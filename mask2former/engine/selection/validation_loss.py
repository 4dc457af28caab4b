"""The training loss on a test set: no augmentation, the same points in every evaluation."""

import re
import zlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation.evaluator import inference_context
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...data.loaders import build_mapper, build_test_loader
from ...errors import UnsupportedError
from ...modeling.criterion.criterion import SetCriterion
from ...modeling.criterion.totals import StepTotals
from ...modeling.meta_arch.base import SegmentationModel
from ...random_state import kept_random_state, seed_cpu


@torch.no_grad()
def validation_loss(cfg: CfgNode, model: nn.Module, dataset_name: str) -> dict[str, float]:
    """Compute what the training loss of a data set is, as if it were one batch.

    Every process has to call this; each takes a share of the data.

    Args:
        model: put into eval mode for the time, so that nothing is dropped and norms are fixed.

    Returns:
        the weighted losses "ce", "mask" and "dice", added up over the decoder layers, and their
        "total"; the same in all processes.

    Raises:
        UnsupportedError: see `check_has_losses`.
    """
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    check_has_losses(inner)
    loader = build_test_loader(cfg, dataset_name, mapper=_TargetMapper(cfg))
    sums: dict[str, float] = defaultdict(float)
    # Points that follow the iteration (POINT_SEED) would differ in each evaluation.
    with inference_context(inner), kept_random_state(), EventStorage(0):
        for batch in loader:
            torch.manual_seed(_number_of(batch[0]))  # of the points
            totals = _Sums(inner.labels_of(batch), masks=1.0)
            with inner.criterion.divided_by(totals):
                losses = inner.losses(batch)
            for name, loss in losses.items():
                sums[_kind(name)] += float(loss)
            sums["masks"] += sum(len(labels) for labels in totals.labels)
            sums["weight"] += totals.weight
    added: dict[str, float] = defaultdict(float)
    for part in comm.all_gather(dict(sums)):
        for name, value in part.items():
            added[name] += value
    masks, weight = max(added.pop("masks"), 1.0), added.pop("weight")
    found = {name: value / (weight if name == "ce" else masks) for name, value in added.items()}
    return {"total": sum(found.values()), **found}


def check_has_losses(model: nn.Module) -> None:
    """Check that `validation_loss` is for this model.

    Raises:
        UnsupportedError: it does not match queries with targets, or its losses are from elsewhere.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module
    criterion = getattr(model, "criterion", None)
    known = isinstance(model, SegmentationModel) and isinstance(criterion, SetCriterion)
    if not known or criterion.has_other_losses():
        raise UnsupportedError(
            f"TEST.LOSS is for models that are trained with SetCriterion's own losses, which this "
            f"{type(model).__name__} is not; set it to False"
        )


class _Sums(StepTotals):
    """Leaves losses as sums, and keeps what the class loss is to be divided by."""

    weight = 0.0

    def class_weight(self, num_queries: int, weights: Tensor) -> Tensor:
        self.weight = float(super().class_weight(num_queries, weights))
        return weights.new_ones(())


class _TargetMapper:
    """Records with targets as in training, of images as in evaluation."""

    def __init__(self, cfg: CfgNode) -> None:
        self._mapper = build_mapper(cfg, is_train=True)
        self._mapper.augmentations = build_mapper(cfg, is_train=False).augmentations
        if hasattr(self._mapper, "pad_to"):
            self._mapper.pad_to = None

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        with kept_random_state(cuda=False):
            seed_cpu(_number_of(record))  # of the frames of a clip
            return self._mapper(record)


def _number_of(record: Mapping[str, Any]) -> int:
    name = record.get("image_id", record.get("video_id", record.get("file_name", "")))
    return zlib.crc32(str(name).encode())


def _kind(name: str) -> str:
    """Return what loss_mask, loss_mask_0, loss_mask_1, ... are called together."""
    match = re.fullmatch(r"loss_(.+?)(_\d+)?", name)
    return match[1] if match else name
