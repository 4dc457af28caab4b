"""Matcher and losses alone, forward and backward, on made-up predictions."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mask2former.modeling.criterion.build import build_criterion

from ..cases import DEVICE, Work, boxes
from ..models import panoptic_config
from ..timing import Row, compare

NUM_CLASSES, LAYERS, QUERIES = 133, 10, 100
SHAPE, QUICK_SHAPE = (512, 40), (256, 10)  # side of the canvas in pixels, targets an image


def measure(rounds: int, quick: bool = False) -> Iterator[Row]:
    """Measure ten layers, batch of 2; `quick` takes a smaller canvas and fewer targets."""
    side, targets = QUICK_SHAPE if quick else SHAPE
    layers, labels, masks = predictions(side, 2, targets)
    what = f"matcher and losses, {LAYERS} layers, {QUERIES} queries, {targets} targets an image"
    yield compare(
        f"{what}, forward and backward",
        ours(layers, labels, masks),
        theirs(layers, labels, masks),
        rounds,
        peer_name="transformers' loss module",
        min_ratio=4.0,
    )


def predictions(side: int, batch: int, targets: int) -> tuple[list[dict], list[Tensor], list]:
    """Return logits of all layers, those at stride 4 for a canvas of `side`, labels and masks."""
    generator = torch.Generator().manual_seed(0)
    layers = []
    for _ in range(LAYERS):
        logits = torch.randn(batch, QUERIES, NUM_CLASSES + 1, generator=generator)
        small = torch.randn(batch, QUERIES, side // 32, side // 32, generator=generator)
        masks = 4 * torch.nn.functional.interpolate(small, scale_factor=8, mode="bilinear")
        layers.append(
            {
                "pred_logits": logits.to(DEVICE).requires_grad_(),
                "pred_masks": masks.to(DEVICE).requires_grad_(),
            }
        )
    labels = [(torch.arange(targets) * 7 % NUM_CLASSES).to(DEVICE) for _ in range(batch)]
    masks = [boxes(targets, side, side, seed).to(DEVICE) for seed in range(batch)]
    return layers, labels, masks


def ours(layers: list[dict], labels: list[Tensor], masks: list[Tensor]) -> Work:
    """Return our criterion on them, weighted and summed, with its gradients."""
    criterion = build_criterion(panoptic_config(), NUM_CLASSES).to(DEVICE)
    outputs = {**layers[-1], "aux_outputs": layers[:-1]}
    targets = [{"labels": a, "masks": b} for a, b in zip(labels, masks)]

    def work() -> None:
        losses = criterion(outputs, targets)
        sum(losses[k] * w for k, w in criterion.weight_dict.items()).backward()

    return work


def theirs(layers: list[dict], labels: list[Tensor], masks: list[Tensor]) -> Work:
    """Return the loss module of transformers on them."""
    from transformers import Mask2FormerConfig
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

    config = Mask2FormerConfig(num_labels=NUM_CLASSES)
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    module = Mask2FormerLoss(config=config, weight_dict=weights).to(DEVICE)
    renamed = [_in_their_names(layer) for layer in layers]
    floats = [mask.float() for mask in masks]

    def work() -> None:
        losses = module(
            masks_queries_logits=layers[-1]["pred_masks"],
            class_queries_logits=layers[-1]["pred_logits"],
            mask_labels=floats,
            class_labels=labels,
            auxiliary_predictions=renamed[:-1],
        )
        sum(w * losses[k] for key, w in weights.items() for k in losses if key in k).backward()

    return work


def _in_their_names(layer: dict[str, Tensor]) -> dict[str, Any]:
    return {
        "masks_queries_logits": layer["pred_masks"],
        "class_queries_logits": layer["pred_logits"],
    }
