"""A classifier of masks and a SAM that are small enough for tests."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mask2former.modeling import MaskClassifier, MaskQueryDecoder
from mask2former.modeling.mask_classifier.given_masks import MaskLabelCriterion
from tests.modeling.small import NUM_CLASSES, WIDTH, TinyBackbone, all_outputs, tiny_head

SIDE = 64  # of SAM's canvas
SIZE = (48, 64)  # of an image that fills it in width, so that nothing is resized


def tiny_decoder(**changes) -> MaskQueryDecoder:
    torch.manual_seed(1)
    args = {
        "num_classes": NUM_CLASSES,
        "hidden_dim": WIDTH,
        "num_queries": 1,
        "nheads": 4,
        "dim_feedforward": 32,
        "dec_layers": 4,
        "pre_norm": False,
        "mask_dim": 16,
        "enforce_input_project": False,
    }
    return MaskQueryDecoder(WIDTH, **(args | changes))


def tiny_classifier(backbone=None, **changes) -> MaskClassifier:
    """All outputs on; three classes, of which the first and the last are things."""
    torch.manual_seed(0)
    backbone = backbone or TinyBackbone()
    head = tiny_head(tiny_decoder())
    weights = dict.fromkeys(("loss_ce", *(f"loss_ce_{i}" for i in range(4))), 2.0)
    args = {
        "backbone": backbone,
        "sem_seg_head": head,
        "criterion": MaskLabelCriterion(NUM_CLASSES, weights, 0.5),
        "size_divisibility": 32,
        "pixel_mean": [100.0, 110.0, 120.0],
        "pixel_std": [50.0, 60.0, 70.0],
        **all_outputs(),
        "test_topk_per_image": 10,
    }
    return MaskClassifier(**(args | changes))


def rectangles(*boxes: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    """Bool masks (N, *size) of rectangles (x0, y0, x1, y1)."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes):
        mask[y0:y1, x0:x1] = True
    return masks


def save_tiny_sam(folder: Path, seed: int = 0, width: int = 32, layers: int = 2) -> Path:
    """A SAM of random weights, saved by transformers as the published ones are."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": width,
            "output_channels": 16,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 16,
            "window_size": 2,
            "global_attn_indexes": [1],
            "num_pos_feats": 8,
            "mlp_dim": 32,
            "initializer_range": 0.5,  # the published 1e-10 would make all images alike
        },
        prompt_encoder_config={
            "hidden_size": 16,
            "image_size": SIDE,
            "patch_size": 16,
            "image_embedding_size": SIDE // 16,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    log = transformers.utils.logging
    log.disable_progress_bar()
    transformers.SamModel(config).save_pretrained(folder)
    log.enable_progress_bar()
    return Path(folder)


def photo(size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
