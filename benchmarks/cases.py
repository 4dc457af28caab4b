"""Pieces of work by name: what is timed is what memory is measured of.

Every function builds its models and inputs and returns the work, to be called without arguments.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mask2former import Predictor, load_config
from mask2former.checkpoints.bridges.convert import build_on_cpu

from .models import (
    OUTPUT,
    ROOT,
    EomtPeer,
    Peer,
    eomt_config,
    panoptic_config,
    picture,
    randomise,
    weights_file,
)

Work = Callable[[], Any]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
VIDEO_CONFIG = ROOT / "configs/youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml"


def image_file(height: int, width: int) -> Path:
    """Return a JPEG file of that size; made once."""
    path = OUTPUT / f"{height}x{width}.jpg"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(height, width)).save(path, quality=90)
    return path


def ours(height: int, width: int, queries: int = 100, frozen: bool = False, **test: Any) -> Work:
    """Return `Predictor` from an image file to the results; `test` as for `panoptic_config`.

    `frozen` weights want no gradient, as the counter of multiply-adds needs it.
    """
    cfg = panoptic_config(queries, min(height, width), **test)
    predictor = Predictor(cfg, weights=str(weights_file(cfg)), device=DEVICE)
    if frozen:
        predictor.model.requires_grad_(False)
    path = image_file(height, width)
    return lambda: predictor(path)


def transformers(
    height: int, width: int, queries: int = 100, frozen: bool = False, **test: bool
) -> Work:
    """Return the same by transformers and its image processor."""
    peer = Peer(panoptic_config(queries, min(height, width), **test), DEVICE)
    if frozen:
        peer.model.requires_grad_(False)
    path = image_file(height, width)
    return lambda: peer(path, **test)


def our_eomt(side: int, **test: Any) -> Work:
    """Return `Predictor` with an EoMT from a square image file to the results; `test` as for
    `eomt_config`."""
    cfg = eomt_config(**test)
    predictor = Predictor(cfg, weights=str(weights_file(cfg)), device=DEVICE)
    path = image_file(side, side)
    return lambda: predictor(path)


def transformers_eomt(side: int, **test: Any) -> Work:
    """Return the same by transformers and its image processor."""
    peer, path = EomtPeer(eomt_config(**test), DEVICE), image_file(side, side)
    return lambda: peer(path)


def batch(height: int, width: int, size: int) -> Work:
    """Return our model on a batch of images that are in memory already."""
    cfg = panoptic_config(side=min(height, width))
    predictor = Predictor(cfg, weights=str(weights_file(cfg)), device=DEVICE)
    images = [picture(height, width, seed) for seed in range(size)]
    return lambda: predictor(images)


def clip(height: int, width: int, frames: int) -> Work:
    """Return our video model on a clip that is in memory already."""
    model = build_on_cpu(load_config(VIDEO_CONFIG)).to(DEVICE)
    randomise(model)
    images = [
        torch.from_numpy(picture(height, width, seed).transpose(2, 0, 1).copy())
        for seed in range(frames)
    ]
    inputs = [{"image": images, "height": height, "width": width, "length": frames, "video_id": 0}]

    @torch.no_grad()
    def work() -> Any:
        return model(inputs)

    return work


def boxes(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Return random rectangles as masks (N, H, W), bool, each with at least an eighth of both
    sides."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.arange(height)[:, None], torch.arange(width)
    masks = []
    for top, left, high, wide in torch.rand(count, 4, generator=generator).tolist():
        top, left = 0.7 * height * top, 0.7 * width * left
        bottom, right = top + height * (high / 4 + 1 / 8), left + width * (wide / 4 + 1 / 8)
        masks.append((y >= top) & (y < bottom) & (x >= left) & (x < right))
    return torch.stack(masks)


def _training_inputs(side: int, size: int, targets: int) -> tuple[torch.Tensor, list, list]:
    images = [
        torch.from_numpy(picture(side, side, seed).transpose(2, 0, 1).copy())
        for seed in range(size)
    ]
    labels = [torch.arange(targets) * 7 % 133 for _ in range(size)]
    masks = [boxes(targets, side, side, seed) for seed in range(size)]
    return torch.stack(images), labels, masks


def our_step(side: int = 512, size: int = 2, targets: int = 20, amp: bool = False) -> Work:
    """Return a training step of ours: forward, losses, backward and AdamW on a batch.

    With `amp` the forward pass runs under autocast to bfloat16.
    """
    from detectron2.structures import Instances

    cfg = panoptic_config()
    model = build_on_cpu(cfg).to(DEVICE).train()
    randomise(model)
    images, labels, masks = _training_inputs(side, size, targets)
    inputs = []
    for image, label, mask in zip(images, labels, masks):
        instances = Instances((side, side), gt_classes=label, gt_masks=mask)
        inputs.append({"image": image.to(DEVICE), "instances": instances.to(DEVICE)})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6)

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=amp):
            loss = sum(model(inputs).values())
        loss.backward()
        optimizer.step()

    return work


def transformers_step(side: int = 512, size: int = 2, targets: int = 20, amp: bool = False) -> Work:
    """Return the same by transformers."""
    peer = Peer(panoptic_config(), DEVICE).model.train()
    images, labels, masks = _training_inputs(side, size, targets)
    pixels = (images.float() / 255 - 0.45) / 0.225
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-6)
    pixels, labels = pixels.to(DEVICE), [x.to(DEVICE) for x in labels]
    masks = [x.float().to(DEVICE) for x in masks]

    def work() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=amp):
            loss = peer(pixel_values=pixels, class_labels=labels, mask_labels=masks).loss
        loss.backward()
        optimizer.step()

    return work


def allocate(megabytes: int) -> Work:
    """Return a known amount of memory, to check the meter with."""
    return lambda: torch.ones(megabytes * 10**6, dtype=torch.uint8)


CASES: dict[str, Callable[..., Work]] = {
    "allocate": allocate,
    "ours": ours,
    "transformers": transformers,
    "our_eomt": our_eomt,
    "transformers_eomt": transformers_eomt,
    "batch": batch,
    "clip": clip,
    "our_step": our_step,
    "transformers_step": transformers_step,
}
