"""From images and masks, or prompts for SAM, to named masks in one call."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from ..annotations.readers.given_masks import LabelMasks, MaskFile, find_mask_file
from ..checkpoints.published import get_config
from ..config.architecture import meta_architecture
from ..errors import UserError
from ..modeling.mask_classifier import MaskClassifier, SamBackbone, SamPrompts, SamSegmenter
from .image import ImageLike, Predictor

GROUND_TRUTH = "ground-truth"


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
            FileNotFoundError, ImportError, UserError: as `Predictor` and `load_sam`; or the config
                is that of another model.
        """
        cfg = get_config(cfg) if isinstance(cfg, str) else cfg.clone()
        _check_names_masks(cfg)
        if sam and cfg.MODEL.BACKBONE.NAME == "build_sam_backbone":
            cfg.defrost()
            cfg.MODEL.SAM.WEIGHTS = os.fspath(sam)
        super().__init__(cfg, weights, device, array_format)
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
            UserError: neither masks nor prompts, or both; prompts without SAM, or outside of the
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
        self, image: np.ndarray, prepared: dict[str, Any], prompts: SamPrompts
    ) -> dict[str, Any]:
        if self.sam is None:
            raise UserError("MaskPredictor: prompts need SAM; give the folder of its weights")
        if isinstance(self.model.backbone, SamBackbone):
            return self.model([prepared | {"prompts": prompts}])[0]
        rgb = image if self.cfg.INPUT.FORMAT == "RGB" else image[:, :, ::-1]
        pixels = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        masks, scores = self.sam(pixels, prompts)
        made = {"masks": masks.cpu(), "mask_scores": scores}
        return made | self.model([prepared | made])[0]


class MaskSource:
    """Where the masks come from that a `MaskPredictor` names in the images of files.

    Args:
        source: a file of masks or a folder with one for each image, see `MaskFile`; `GROUND_TRUTH`;
            or prompts for SAM.
    """

    def __init__(self, source: str | os.PathLike[str] | SamPrompts):
        self.source = source
        self._file: MaskFile | None = None

    def of_image(
        self, file: str, size: tuple[int, int], image_id: Any, truth: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what `MaskPredictor.__call__` takes beside an image: masks and scores, or prompts.

        Args:
            file: of the image.
            size: (H, W) of the image, in pixels.
            image_id: the dataset's, by which masks of a file are found if it has no names; or None.
            truth: its ground truth, which may be empty; see `ground_truth`.

        Raises:
            UserError, OSError: masks that are missing, damaged or of another size.
        """
        if isinstance(self.source, SamPrompts):
            return {"prompts": self.source}
        if self.source == GROUND_TRUTH:
            return {"masks": _true_masks(file, truth)}
        path = find_mask_file(os.fspath(self.source), file)
        if self._file is None or self._file.path != path:
            self._file = MaskFile(path)  # a folder has another one for the next image
        masks, scores = self._file.of_image(file, size, image_id)
        return {"masks": masks, "scores": scores}


def _true_masks(file: str, truth: Mapping[str, Any]) -> Any:
    """Return the segments of the ground truth, or else its instances."""
    if "panoptic_seg" in truth:
        return LabelMasks(truth["panoptic_seg"][0].numpy())
    if "instances" in truth:
        return truth["instances"].pred_masks
    raise UserError(f"the dataset has no masks for {file}")


def _check_names_masks(cfg: CfgNode) -> None:
    """Raise a UserError where a config is that of a model that names no given masks."""
    if meta_architecture(cfg) != "MaskClassifier":
        raise UserError(
            "masks can be named by a model whose MODEL.META_ARCHITECTURE is MaskClassifier, such "
            "as configs/shapes/mask-classification/maskformer2_lite0.yaml; the config has "
            f"{cfg.MODEL.META_ARCHITECTURE}"
        )
