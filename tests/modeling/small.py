"""Models small enough for tests, built by the same code as the large ones."""

import torch
from detectron2.data import MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone
from torch import nn

from mask2former.modeling import (
    HungarianMatcher,
    MaskFormer,
    MaskFormerHead,
    MSDeformAttnPixelDecoder,
    MultiScaleMaskedTransformerDecoder,
    SetCriterion,
    VideoMaskFormer,
    VideoMultiScaleMaskedTransformerDecoder,
)
from mask2former.modeling.backbone.folding import speed_up_convolutions

NUM_CLASSES, NUM_QUERIES, WIDTH = 3, 6, 32
THINGS = {7: 0, 9: 2}  # dataset ids of classes 0 and 2


class TinyBackbone(Backbone):
    """One convolution a stride."""

    def __init__(self):
        super().__init__()
        stages = nn.ModuleList(nn.Conv2d(3, 8, 1, stride=s) for s in (4, 8, 16, 32))
        self.stages = speed_up_convolutions(stages)  # as in models that are built from a config

    def forward(self, x):
        return {f"res{i}": stage(x) for i, stage in enumerate(self.stages, 2)}

    def output_shape(self):
        return {f"res{i}": ShapeSpec(channels=8, stride=2**i) for i in range(2, 6)}

    @property
    def size_divisibility(self):
        return 32


def tiny_head(decoder: nn.Module, shapes=None) -> MaskFormerHead:
    """A head with one layer in its encoder, on a backbone's shapes or on `TinyBackbone`'s."""
    shapes = shapes or TinyBackbone().output_shape()
    pixel_decoder = MSDeformAttnPixelDecoder(
        shapes,
        transformer_dropout=0.0,
        transformer_nheads=4,
        transformer_enc_layers=1,
        conv_dim=WIDTH,
        mask_dim=16,
        norm="GN",
        transformer_in_features=["res3", "res4", "res5"],
        common_stride=4,
    )
    return MaskFormerHead(
        shapes,
        num_classes=NUM_CLASSES,
        pixel_decoder=pixel_decoder,
        transformer_predictor=decoder,
        transformer_in_feature="multi_scale_pixel_decoder",
    )


def _decoder(cls, **more):
    return cls(
        WIDTH,
        num_classes=NUM_CLASSES,
        hidden_dim=WIDTH,
        num_queries=NUM_QUERIES,
        nheads=4,
        dim_feedforward=32,
        dec_layers=2,
        pre_norm=False,
        mask_dim=16,
        enforce_input_project=False,
        **more,
    )


def _criterion():
    weights = {"loss_ce": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    weights |= {f"{k}_{i}": w for i in range(2) for k, w in list(weights.items())[:3]}
    return SetCriterion(
        NUM_CLASSES,
        matcher=HungarianMatcher(2.0, 5.0, 5.0, num_points=64),
        weight_dict=weights,
        eos_coef=0.1,
        losses=["labels", "masks"],
        num_points=64,
        oversample_ratio=3.0,
        importance_sample_ratio=0.75,
    )


def _common(decoder, point_seed):
    return {
        "backbone": TinyBackbone(),
        "sem_seg_head": tiny_head(decoder),
        "criterion": _criterion(),
        "size_divisibility": 32,
        "pixel_mean": [100.0, 110.0, 120.0],
        "pixel_std": [50.0, 60.0, 70.0],
        "point_seed": point_seed,
        "num_queries": NUM_QUERIES,
    }


def tiny_metadata():
    """Metadata of three classes, of which the first and the last are things."""
    metadata = MetadataCatalog.get("tiny_test_classes")
    metadata.thing_dataset_id_to_contiguous_id = THINGS
    return metadata


def all_outputs() -> dict:
    """Arguments of an image model that turn on all outputs, and keep every segment."""
    return {
        "object_mask_threshold": 0.0,
        "overlap_threshold": 0.0,
        "metadata": tiny_metadata(),
        "sem_seg_postprocess_before_inference": True,
        "semantic_on": True,
        "panoptic_on": True,
        "instance_on": True,
    }


def tiny_model(point_seed=-1, **changes) -> MaskFormer:
    """An image model with all outputs on."""
    torch.manual_seed(0)
    args = {
        **all_outputs(),
        "test_topk_per_image": 5,
    }
    decoder = _decoder(MultiScaleMaskedTransformerDecoder)
    return MaskFormer(**(_common(decoder, point_seed) | args | changes))


def tiny_video_model(
    num_frames=2, clip_label="last_frame", point_seed=-1, **changes
) -> VideoMaskFormer:
    """A video model with the parameters of `tiny_model`."""
    torch.manual_seed(0)
    decoder = _decoder(VideoMultiScaleMaskedTransformerDecoder, num_frames=num_frames)
    args = {"num_frames": num_frames, "clip_label": clip_label}
    return VideoMaskFormer(**(_common(decoder, point_seed) | args | changes))
