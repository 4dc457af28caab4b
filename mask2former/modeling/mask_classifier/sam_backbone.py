"""Segment Anything as a backbone: one pass of its encoder gives features and masks."""

from typing import Any

import numpy as np
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn

from ...errors import UserError
from ...layers import SimpleFeaturePyramid
from ..postprocessing.canvas import Canvas
from ..registries import BACKBONE_REGISTRY
from .sam_segmenter import PIXEL_MEAN, PIXEL_STD, SamPrompts, SamSegmenter

_EMBEDDING = "sam_embedding"


class SamBackbone(Backbone):
    """SAM's image encoder, which stays frozen, and a small pyramid over its single map.

    Features are res2 to res5, of strides 4 to 32, and the map itself, from which `segment` makes
    masks.

    Checkpoints hold the pyramid and a fingerprint of SAM, whose own weights come from its folder;
    loading one that was trained on another SAM raises a UserError.

    Args:
        segmenter: SAM.
    """

    def __init__(self, segmenter: SamSegmenter):
        super().__init__()
        self.sam = segmenter
        vision = segmenter.model.config.vision_config
        width, stride = int(vision.output_channels), int(vision.patch_size)
        strides = (stride // 4, stride // 2, stride, stride * 2)
        self.pyramid = SimpleFeaturePyramid(width, stride, width, strides)
        self.register_buffer("sam_fingerprint", _fingerprint(segmenter))
        self.register_state_dict_post_hook(_leave_out_sam)
        self.register_load_state_dict_post_hook(_do_not_miss_sam)
        self._out_features = ["res2", "res3", "res4", "res5"]
        self._out_feature_channels = dict.fromkeys(self._out_features, width)
        self._out_feature_strides = dict(zip(self._out_features, strides))

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        saved = state_dict.get(f"{prefix}sam_fingerprint")
        if saved is not None and not torch.allclose(
            saved.to(self.sam_fingerprint), self.sam_fingerprint
        ):
            raise UserError(
                "the checkpoint was trained on the features of another SAM (side of the canvas, "
                f"parameters, mean size: {saved.tolist()}, here {self.sam_fingerprint.tolist()}); "
                "name the folder of that one (MODEL.SAM.WEIGHTS, --sam-weights)"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def size_divisibility(self) -> int:
        """Every image fills one canvas of this side."""
        return self.sam.image_size

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return features of normalised canvases (B, 3, S, S), by name, `sam_embedding` among them.

        Raises:
            UserError: canvases of another size than SAM's.
        """
        embedding = self.sam.embed(x)
        features = dict(zip(self._out_features, self.pyramid(embedding)))
        return features | {_EMBEDDING: embedding}

    def segment(
        self, features: dict[str, Tensor], index: int, prompts: SamPrompts, canvas: Canvas
    ) -> tuple[Tensor, Tensor]:
        """Return masks (N, H, W) and scores (N,) of an image; see `SamSegmenter.segment`.

        Args:
            features: of the batch, from `forward`.
            index: of the image in the batch.
            prompts: for this image.
            canvas: its sizes.
        """
        return self.sam.segment(features[_EMBEDDING][index : index + 1], prompts, canvas)


def _fingerprint(segmenter: SamSegmenter) -> Tensor:
    """Return what identifies a SAM: side of its canvas, number and mean size of its weights."""
    weights = list(segmenter.parameters())
    count = sum(w.numel() for w in weights)
    size = sum(w.abs().sum(dtype=torch.float64).item() for w in weights) / count
    return torch.tensor([segmenter.image_size, count, size], dtype=torch.float64)


def _leave_out_sam(module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}sam.")]:
        del state[name]


def _do_not_miss_sam(module: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [name for name in keys.missing_keys if ".sam.model." not in f".{name}"]


@BACKBONE_REGISTRY.register()
def build_sam_backbone(cfg, input_shape: ShapeSpec) -> SamBackbone:
    """Build the backbone from the folder MODEL.SAM.WEIGHTS.

    Raises:
        UserError: the config normalises images differently from SAM; also as `load_sam`.
    """
    ours = [*cfg.MODEL.PIXEL_MEAN, *cfg.MODEL.PIXEL_STD]
    theirs = [*PIXEL_MEAN, *PIXEL_STD]
    near = len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=0, atol=0.1)
    if cfg.INPUT.FORMAT != "RGB" or not near:
        raise UserError(
            f"SAM takes RGB images with PIXEL_MEAN {list(PIXEL_MEAN)} and PIXEL_STD "
            f"{list(PIXEL_STD)}; the config has INPUT.FORMAT {cfg.INPUT.FORMAT}, MODEL.PIXEL_MEAN "
            f"{list(cfg.MODEL.PIXEL_MEAN)} and MODEL.PIXEL_STD {list(cfg.MODEL.PIXEL_STD)}."
        )
    if not cfg.MODEL.SAM.WEIGHTS:
        raise UserError("MODEL.SAM.WEIGHTS is empty: name the folder with SAM's weights")
    return SamBackbone(SamSegmenter.from_folder(cfg.MODEL.SAM.WEIGHTS))
