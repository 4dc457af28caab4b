"""Test-time augmentation of semantic segmentation: scores averaged over scales and flips."""

from collections.abc import Callable

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import DatasetMapperTTA
from fvcore.transforms import HFlipTransform, TransformList
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ...config.arguments import configurable
from ...errors import UserError
from ...formats.images import read_image
from .switches import switched

_SWITCHES = {
    "panoptic_on": False,
    "instance_on": False,
    "semantic_output": "scores",
    "batch_by_size": True,
}


class _Mapper(DatasetMapperTTA):
    """detectron2's, with sizes that leave a pixel of very long and thin images."""

    def __call__(self, dataset_dict: dict) -> list[dict]:
        short, long = sorted(dataset_dict["image"].shape[-2:])
        safe = DatasetMapperTTA(self.min_sizes, max(self.max_size, -(-long // short)), self.flip)
        return safe(dataset_dict)


class SemanticSegmentorWithTTA(nn.Module):
    """Run a semantic segmentation model on augmented copies of each image and average.

    Differs from the published code in that the model computes no panoptic and instance output,
    which is not averaged here, and in that `batch_size` is respected.

    Args:
        model: `MaskFormer` with semantic output, or detectron2's SemanticSegmentor.
        tta_mapper: turns an input dict into one per augmentation, each with its `transforms`;
            detectron2's `DatasetMapperTTA` over TEST.AUG if built from a config.
        batch_size: augmented copies that the model sees at once.
        image_format: channel order of images that are read from files, as INPUT.FORMAT.

    Built as `SemanticSegmentorWithTTA(cfg, model, tta_mapper=None, batch_size=1)` too.

    Raises:
        UserError: the model's semantic output is off, or batch_size is not positive.
    """

    @configurable
    def __init__(
        self,
        *,
        model: nn.Module,
        tta_mapper: Callable[[dict], list[dict]],
        batch_size: int = 1,
        image_format: str = "RGB",
    ):
        super().__init__()
        if isinstance(model, DistributedDataParallel):
            model = model.module
        if not getattr(model, "semantic_on", True):
            raise UserError(
                "SemanticSegmentorWithTTA averages semantic scores, which the model does not "
                "return: set MODEL.MASK_FORMER.TEST.SEMANTIC_ON, or turn TEST.AUG.ENABLED off."
            )
        if batch_size < 1:
            raise ValueError(
                f"SemanticSegmentorWithTTA: expected a batch_size of at least 1, got {batch_size}."
            )
        self.model = model
        self.tta_mapper = tta_mapper
        self.batch_size = batch_size
        self.image_format = image_format

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        tta_mapper: Callable[[dict], list[dict]] | None = None,
        batch_size: int = 1,
    ) -> dict:
        return {
            "model": model,
            "tta_mapper": _Mapper(cfg) if tta_mapper is None else tta_mapper,
            "batch_size": batch_size,
            "image_format": cfg.INPUT.FORMAT,
        }

    def forward(self, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
        """Segment images.

        Args:
            batched_inputs: one dict an image: `image` (3, H, W) or else `file_name`, and
                optionally `height` and `width` of the output (default: those of the image).

        Returns:
            one dict an image, with `sem_seg` (K, height, width), mean scores.
        """
        with torch.no_grad(), switched(self.model, **_SWITCHES):
            return [self._inference_one_image(self._with_image(x)) for x in batched_inputs]

    def _with_image(self, x: dict) -> dict:
        if "image" in x:
            image = x["image"]
        else:
            pixels = read_image(x["file_name"], self.image_format)
            image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        height, width = image.shape[1:]
        return {"height": height, "width": width, **x, "image": image}

    def _get_augmented_inputs(self, x: dict) -> tuple[list[dict], list[TransformList]]:
        """Return the copies of an input, and what was done to each."""
        copies = self.tta_mapper(x)
        return copies, [copy.pop("transforms") for copy in copies]

    def _inference_one_image(self, x: dict) -> dict[str, Tensor]:
        copies, changes = self._get_augmented_inputs(x)
        flipped = [any(isinstance(t, HFlipTransform) for t in c.transforms) for c in changes]
        total: Tensor | None = None
        for start in range(0, len(copies), self.batch_size):
            part = slice(start, start + self.batch_size)
            for output, flip in zip(self.model(copies[part]), flipped[part]):
                scores = output["sem_seg"].float()
                scores = scores.flip(-1) if flip else scores
                # A copy may have been computed on the CPU, where the GPU ran out of memory.
                total = scores if total is None else total + scores.to(total.device)
        return {"sem_seg": total / len(copies)}
