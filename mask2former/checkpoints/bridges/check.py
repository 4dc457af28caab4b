"""Comparison of our model with the one that it was converted from, on the same input."""

import dataclasses
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch.nn import functional as F

from ...config import get_config
from ..loading import load_into
from .backbones import STAGE_BLOCKS, detectron2_options, swin_options
from .folders import family_of, read_object


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far two outputs are apart.

    Attributes:
        name: of the output.
        largest: largest absolute difference.
        scale: largest absolute value of ours.
    """

    name: str
    largest: float
    scale: float

    def __str__(self) -> str:
        return f"{self.name}: largest difference {self.largest:.2e} (values up to {self.scale:.2e})"


@torch.inference_mode()
def compare_huggingface(
    model: Any, folder: str | os.PathLike, images: torch.Tensor
) -> list[Difference]:
    """Compare class and mask logits with those of transformers' model.

    Args:
        model: ours, in eval mode.
        folder: Hugging Face's.
        images: (B, 3, H, W), normalised; H and W multiples of 32, for EoMT those of its images.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """
    import transformers

    family = family_of(read_object(Path(folder) / "config.json"))
    theirs = getattr(transformers, family.model).from_pretrained(folder).eval()
    theirs = theirs(pixel_values=images)
    ours = model.sem_seg_head(model.backbone(images))
    return [
        _difference("class logits", ours["pred_logits"], theirs.class_queries_logits),
        _difference("mask logits", ours["pred_masks"], theirs.masks_queries_logits),
    ]


@torch.inference_mode()
def compare_resnet(
    converted: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    images: torch.Tensor,
    library: str,
) -> list[Difference]:
    """Compare the features of detectron2's ResNet with those of another library's.

    Args:
        converted: weights of detectron2's.
        weights: of the other library's.
        images: (B, 3, H, W), normalised.
        library: "torchvision" or "timm".
    """
    options = detectron2_options(weights)
    cfg = get_config()
    cfg.MODEL.RESNETS.merge_from_other_cfg(type(cfg)(options))
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    ours = build_backbone(cfg, ShapeSpec(channels=3)).eval()
    load_into(ours, converted, min_match=1.0)
    theirs = _build_resnet(weights, options, library)
    features = ours(images)
    x = theirs.maxpool(F.relu(theirs.bn1(theirs.conv1(images))))
    differences = []
    for i in (1, 2, 3, 4):
        x = getattr(theirs, f"layer{i}")(x)
        differences.append(_difference(f"res{i + 1}", features[f"res{i + 1}"], x))
    return differences


@torch.inference_mode()
def compare_swin(
    converted: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    images: torch.Tensor,
) -> list[Difference]:
    """Compare the features of our Swin with those of timm's, both without affine norms.

    The images are resized to a square of 32 windows, since timm differs from the official code
    where windows have to be padded.

    Args:
        converted: weights of ours.
        weights: of an official Swin checkpoint, which timm reads too.
        images: (B, 3, H, W), normalised.
    """
    from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn

    options: dict[str, Any] = swin_options(weights)
    cfg = get_config()
    cfg.MODEL.BACKBONE.NAME = "D2SwinTransformer"
    cfg.MODEL.SWIN.merge_from_other_cfg(type(cfg)(options))
    ours = build_backbone(cfg, ShapeSpec(channels=3)).eval()
    load_into(ours, converted, min_match=1.0)
    side = 32 * options["WINDOW_SIZE"]
    images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
    theirs = SwinTransformer(
        img_size=side,
        num_classes=0,
        always_partition=True,
        **{key.lower(): value for key, value in options.items()},
    ).eval()
    official = {n: t for n, t in weights.items() if not n.startswith("head.")}
    theirs.load_state_dict(checkpoint_filter_fn(official, theirs))
    features = ours(images)
    x = theirs.patch_embed(images)
    differences = []
    for i, stage in enumerate(theirs.layers):
        x = stage(x)  # (B, H, W, C)
        normed = F.layer_norm(x, x.shape[-1:]).permute(0, 3, 1, 2)
        differences.append(_difference(f"res{i + 2}", features[f"res{i + 2}"], normed))
    return differences


def _build_resnet(
    weights: Mapping[str, torch.Tensor], options: dict[str, Any], library: str
) -> Any:
    depth = options["DEPTH"]
    resnet = importlib.import_module(f"{library}.models.resnet")
    block = resnet.BasicBlock if depth < 50 else resnet.Bottleneck
    in_torchvision = library == "torchvision"
    groups = {
        "groups" if in_torchvision else "cardinality": options["NUM_GROUPS"],
        "width_per_group" if in_torchvision else "base_width": options["WIDTH_PER_GROUP"],
    }
    model = resnet.ResNet(block, STAGE_BLOCKS[depth], **groups)
    load_into(model, {n: t for n, t in weights.items() if not n.startswith("fc.")}, min_match=1.0)
    return model.eval()


def _difference(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> Difference:
    if ours.shape != theirs.shape:
        raise ValueError(f"{name}: ours is {tuple(ours.shape)}, theirs {tuple(theirs.shape)}.")
    return Difference(name, (ours - theirs).abs().max().item(), ours.abs().max().item())
