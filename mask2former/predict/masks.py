"""From images and masks, or prompts for SAM, to named masks in one call."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from ..modeling.mask_classifier import MaskClassifier, SamBackbone, SamPrompts, SamSegmenter
from .image import ImageLike, Predictor

__all__ = ["MaskPredictor"]


class MaskPredictor(Predictor):
    """A `MaskClassifier` with its weights, and SAM where masks are to be found first.

    Where the model's backbone is SAM's encoder, one pass of it serves masks and classes.

    Example:
        >>> predictor = MaskPredictor(cfg, weights="model_final.pth", sam="sam-vit-base")
        >>> predictor("street.jpg", prompts=SamPrompts(points=[(120, 80)]))["instances"]

    Attributes:
        sam: what makes masks of prompts, or None.
    """

    def __init__(
        self,
        cfg: CfgNode | str,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
        array_format: str = "BGR",
        sam: str | os.PathLike[str] | None = None,
    ) -> None:
        """
        Args:
            cfg, weights, device, array_format: as for `Predictor`.
            sam: folder of SAM's weights, see `load_sam`. Where the config's backbone is SAM's, it
                stands for MODEL.SAM.WEIGHTS.

        Raises:
            FileNotFoundError, ImportError, ValueError: as `Predictor` and `load_sam`; or the config
                is that of another model.
        """
        if not isinstance(cfg, str):
            check_names_masks(cfg)
            if sam and cfg.MODEL.BACKBONE.NAME == "build_sam_backbone":
                cfg = cfg.clone()
                cfg.defrost()
                cfg.MODEL.SAM.WEIGHTS = os.fspath(sam)
        super().__init__(cfg, weights, device, array_format)
        check_names_masks(self.cfg)
        self.model: MaskClassifier
        self.sam: SamSegmenter | None = None
        if isinstance(self.model.backbone, SamBackbone):
            self.sam = self.model.backbone.sam
        elif sam:
            self.sam = SamSegmenter.from_folder(sam).to(self.model.device)

    @torch.no_grad()
    def __call__(
        self,
        image: ImageLike,
        masks: Any = None,
        prompts: SamPrompts | None = None,
        scores: Any = None,
    ) -> dict[str, Any]:
        """Name the masks of one image.

        Args:
            image: a file, a PIL image or an array, as for `Predictor`.
            masks: (N, H, W), bool, of the image's size, as an array or tensor, or read in chunks as
                `RleMasks`.
            prompts: in the place of masks: SAM finds them.
            scores: how good each mask is in itself, (N,) in 0..1; class probabilities are
                multiplied by them.

        Returns:
            what `MaskClassifier.forward` returns for one image; with prompts, the masks that SAM
            found are there as `masks` and `mask_scores`.

        Raises:
            ValueError: neither masks nor prompts, or both; prompts without SAM, or outside of the
                image; masks of another size.
        """
        if (masks is None) == (prompts is None):
            raise ValueError("MaskPredictor: expected either masks or prompts for an image")
        array = self._to_array(image)
        prepared = self._prepare_array(array)
        if prompts is not None:
            return self._with_prompts(array, prepared, prompts)
        if isinstance(masks, np.ndarray):
            masks = torch.from_numpy(masks)
        return self.model([prepared | {"masks": masks, "mask_scores": scores}])[0]

    def _with_prompts(
        self, array: np.ndarray, prepared: dict[str, Any], prompts: SamPrompts
    ) -> dict[str, Any]:
        if self.sam is None:
            raise ValueError("MaskPredictor: prompts need SAM; give the folder of its weights")
        if isinstance(self.model.backbone, SamBackbone):
            return self.model([prepared | {"prompts": prompts}])[0]
        if self.cfg.INPUT.FORMAT == "BGR":
            array = array[:, :, ::-1]
        image = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
        masks, scores = self.sam(image, prompts)
        made = {"masks": masks.cpu(), "mask_scores": scores}
        return made | self.model([prepared | made])[0]


def check_names_masks(cfg: CfgNode) -> None:
    """Raises a ValueError where a config is that of a model that names no given masks."""
    if cfg.MODEL.META_ARCHITECTURE != "MaskClassifier":
        raise ValueError(
            "masks can be named by a model whose MODEL.META_ARCHITECTURE is MaskClassifier, such "
            "as configs/shapes/mask-classification/maskformer2_lite0.yaml; the config has "
            f"{cfg.MODEL.META_ARCHITECTURE}"
        )
