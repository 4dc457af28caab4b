"""The mapper for `MaskClassifier`: images with masks that are to be named."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from ...annotations.readers.given_masks import MaskFile, RleMasks
from ...config.arguments import configurable
from ...errors import UserError
from ...formats.images import check_size
from ..geometry import Geometry
from ..mappers import DatasetMapper
from ..targets import Targets, instance_targets, semantic_targets
from .proposals import ProposalSampler, match_masks


class MaskDatasetMapper(DatasetMapper):
    """Map a record to an image and masks, with the classes of the masks.

    In training the masks are those that `ProposalSampler` draws around the targets that
    `DatasetMapper` makes; in inference they are the record's own, or those of a file.

    The result is that of `DatasetMapper` without "instances", and

    - "masks" (N, H, W) bool, in training of the size of "image", else of that of the file; from a
      file of masks they are `RleMasks`;
    - "mask_labels" (N,) int64 in 0..K, K for no-object; in inference only where the record says
      what is in the image;
    - "mask_scores" (N,), in inference, where the file of masks has them.

    Args:
        sampler: draws the masks in training.
        mask_file: further masks of the images in training; in inference, those to name.

    The others are those of `DatasetMapper`; `num_classes` must be given.

    Raises:
        FileNotFoundError, UserError: on a call, as `DatasetMapper`; a file of masks that does not
            fit the image.
    """

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        sampler: ProposalSampler,
        mask_file: str = "",
        **args: Any,
    ) -> None:
        super().__init__(is_train, **args)
        if self.num_classes is None:
            raise ValueError("MaskDatasetMapper needs num_classes, which stands for no-object")
        self.sampler = sampler
        self.mask_file = MaskFile(mask_file) if mask_file else None

    @classmethod
    def from_config(
        cls, cfg: CfgNode, is_train: bool = True, name: str | None = None
    ) -> dict[str, Any]:
        node = cfg.INPUT.MASK_PROPOSALS
        return super().from_config(cfg, is_train, name) | {
            "sampler": ProposalSampler(
                jittered=node.JITTERED,
                made_up=node.MADE_UP,
                min_iou=node.IOU_THRESHOLD,
                max_masks=node.MAX_MASKS,
            ),
            "mask_file": node.TRAIN_FILE if is_train else node.TEST_FILE,
        }

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Map one record, which stays as it is; see the class for keys and errors."""
        result = super().__call__(record)
        if self.is_train:
            return result
        size = (result["height"], result["width"])
        try:
            return result | self._given_masks(record, size)
        except UserError as error:
            raise UserError(f"{record['file_name']}: {error}") from error

    def _finish(
        self, result: dict[str, Any], targets: Targets, geometry: Geometry
    ) -> dict[str, Any]:
        """Replace the instances by masks of a training image."""
        del result["instances"]
        more = np.zeros((0, *targets.masks.shape[1:]), bool)
        if self.mask_file is not None:
            more = self._moved_masks(result, targets.masks.shape[1:], geometry)
        masks, classes = self.sampler.sample(targets, more, self.num_classes)
        if "ignore" in result:  # what lies there is unknown: a mask is neither right nor wrong
            unknown = result["ignore"].numpy()
            areas = masks.sum(axis=(1, 2))
            keep = (masks & unknown).sum(axis=(1, 2)) <= areas / 2
            keep |= classes != self.num_classes
            masks, classes = masks[keep], classes[keep]
        result["masks"], result["mask_labels"] = torch.from_numpy(masks), torch.from_numpy(classes)
        return result

    def _masks_of_file(self, record: Mapping[str, Any]) -> tuple[RleMasks, torch.Tensor | None]:
        size = (record["height"], record["width"])
        return self.mask_file.of_image(
            record["file_name"], size, record.get("image_id"), missing_ok=True
        )

    def _moved_masks(
        self, record: Mapping[str, Any], canvas: tuple[int, int], geometry: Geometry
    ) -> np.ndarray:
        """Return the masks of the file, transformed with the image."""
        masks, _ = self._masks_of_file(record)
        moved = np.zeros((len(masks), *canvas), bool)
        for i, target in enumerate(moved):
            bitmap = masks[[i]][0].numpy().view(np.uint8)
            bitmap = geometry.apply_labels(np.ascontiguousarray(bitmap))
            target[: bitmap.shape[0], : bitmap.shape[1]] = bitmap != 0
        return moved

    def _given_masks(self, record: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        """Return the masks to name in inference, at the size (H, W) of the file."""
        targets = self._targets_of_file(record, size)
        if self.mask_file is None:
            if targets is None:
                raise UserError(
                    "there are no masks to name: the dataset has no annotations; set "
                    "INPUT.MASK_PROPOSALS.TEST_FILE"
                )
            masks = torch.from_numpy(targets.masks)
            return {"masks": masks, "mask_labels": torch.from_numpy(targets.classes)}
        masks, scores = self._masks_of_file({**record, "height": size[0], "width": size[1]})
        found: dict[str, Any] = {"masks": masks}
        if scores is not None:
            found["mask_scores"] = scores
        if targets is not None:
            min_iou = self.sampler.min_iou
            none = np.zeros(0, np.int64)
            labels = [
                match_masks(masks[[i]].numpy(), targets, self.num_classes, min_iou)
                for i in range(len(masks))
            ]
            found["mask_labels"] = torch.from_numpy(np.concatenate([none, *labels]))
        return found

    def _targets_of_file(self, record: Mapping[str, Any], size: tuple[int, int]) -> Targets | None:
        """Return the targets as they are annotated, None where the record has no annotations."""
        key = {"panoptic": "pan_seg_file_name", "semantic": "sem_seg_file_name"}
        if key.get(self.target, "annotations") not in record:
            return None
        same, copy = Geometry([], size), dict(record)
        if self.target == "panoptic":
            return self._read_segments(copy, same, size)
        if self.target == "instance":
            return instance_targets(self._take_annotations(copy), same, size, size)
        copy.pop("annotations", None)
        labels = self._read_sem_seg(copy)
        check_size(record, labels.shape, record["file_name"])
        return semantic_targets(labels, self.ignore_label, size, self.num_classes)
