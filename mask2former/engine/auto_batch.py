"""How many images of a step pass the model at a time: as many as fit into the memory of the GPU."""

import logging
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Instances
from detectron2.utils import comm
from torch import nn

from ..config.architecture import meta_architecture
from ..config.loading import changed
from ..errors import UserError
from ..ops.memory import is_out_of_memory
from ..random_state import kept_random_state

logger = logging.getLogger(__name__)

_TARGETS = 50  # of each image that is tried; fewer where there are fewer queries
_SPARE = 0.1  # fraction of the GPU that is left free, for other sizes and its fragments
_OPTIMIZER_BYTES = 8  # of AdamW for each number in the weights
_GIB = 2**30

Batch = list[dict[str, Any]]


def fit_batch(
    cfg: CfgNode,
    model: nn.Module,
    autocast_dtype: torch.dtype | None,
    device: torch.device | None = None,
) -> CfgNode:
    """Return a config with the SOLVER.ACCUMULATE that lets the steps of a model fit.

    Without SOLVER.AUTO_BATCH it is returned as it is. The model sees images of the largest size of
    the config; its weights, statistics and random numbers stay as they were. On a CPU, whose memory
    others share, nothing is changed, and the log says what a step needs.

    Args:
        model: on its device, not wrapped for several processes.
        autocast_dtype: of the training; None for float32.
        device: whose memory counts; by default the model's.

    Raises:
        UserError: not even one image fits.
    """
    if not cfg.SOLVER.AUTO_BATCH:
        return cfg
    images = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    device = device or next(model.parameters()).device

    def step(count: int) -> None:
        _run(model, made_up_batch(cfg, count), device, autocast_dtype)

    with kept_random_state(), _kept_buffers(model):
        if device.type != "cuda":
            _say_need(images, step)
            return cfg
        found = largest_that_fits(images, lambda count: _fits(step, count, model, device))
    parts = max(comm.all_gather(images // found if found else 0))
    if not min(comm.all_gather(found)):
        height, width = largest_size(cfg)
        raise UserError(
            f"SOLVER.AUTO_BATCH: not even one image of {width}x{height} (width x height) fits into "
            f"{torch.cuda.get_device_name(device)}; make INPUT.IMAGE_SIZE or the crop smaller, or "
            "set SOLVER.AMP.ENABLED True or USE_CHECKPOINT of the backbone"
        )
    text = "SOLVER.AUTO_BATCH: %d of the %d images of a process at a time (SOLVER.ACCUMULATE %d)"
    logger.info(text, images // parts, images, parts)
    return changed(cfg, "SOLVER.ACCUMULATE", parts)


def largest_that_fits(images: int, fits: Callable[[int], bool]) -> int:
    """Return the largest divisor of a number of images that fits; 0 if not even one does."""
    divisors = (n for n in range(images, 0, -1) if images % n == 0)
    return next((n for n in divisors if fits(n)), 0)


def largest_size(cfg: CfgNode) -> tuple[int, int]:
    """Return the largest size (H, W), in pixels, of a training image of a config."""
    inputs = cfg.INPUT
    if inputs.DATASET_MAPPER_NAME.endswith("_lsj"):
        return inputs.IMAGE_SIZE, inputs.IMAGE_SIZE
    if inputs.CROP.ENABLED and inputs.CROP.TYPE == "absolute":
        height, width = inputs.CROP.SIZE
        return int(height), int(width)
    return max(inputs.MIN_SIZE_TRAIN), inputs.MAX_SIZE_TRAIN


def made_up_batch(cfg: CfgNode, count: int) -> Batch:
    """Return grey images of the largest size, or clips of such frames, with many targets."""
    height, width = largest_size(cfg)
    kind = meta_architecture(cfg)
    if kind == "MaskClassifier":  # whose masks are its queries
        targets = cfg.INPUT.MASK_PROPOSALS.MAX_MASKS
    else:
        targets = min(_TARGETS, cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES)
    masks = torch.zeros(targets, height, width, dtype=torch.bool)
    for i, mask in enumerate(masks):  # stripes, so that none is empty
        mask[i * height // targets : (i + 1) * height // targets + 1] = True
    fields = {
        "gt_classes": torch.zeros(targets, dtype=torch.int64),
        "gt_ids": torch.arange(targets),
    }
    image = torch.full((3, height, width), 128, dtype=torch.uint8)
    if kind == "MaskClassifier":
        common = {"image": image, "masks": masks, "mask_labels": fields["gt_classes"]}
    elif kind != "VideoMaskFormer":
        instances = Instances((height, width), **fields, gt_masks=masks)
        sem_seg = torch.zeros(height, width, dtype=torch.int64)  # for per-pixel baselines
        common = {"image": image, "instances": instances, "sem_seg": sem_seg}
    else:
        frames = cfg.INPUT.SAMPLING_FRAME_NUM
        instances = Instances((height, width), **fields, gt_masks=BitMasks(masks))
        common = {"image": [image] * frames, "instances": [instances] * frames}
    return [{**common, "height": height, "width": width} for _ in range(count)]


def _fits(step: Callable[[int], None], count: int, model: nn.Module, device: torch.device) -> bool:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        step(count)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        torch.cuda.empty_cache()
    later = sum(p.numel() for p in model.parameters() if p.requires_grad) * _OPTIMIZER_BYTES
    free, _ = torch.cuda.mem_get_info(device)
    room = free + torch.cuda.memory_allocated(device)
    return torch.cuda.max_memory_allocated(device) + later <= (1 - _SPARE) * room


def _run(model: nn.Module, batch: Batch, device: torch.device, dtype: torch.dtype | None) -> None:
    try:
        with torch.autocast(device.type, dtype=dtype) if dtype else nullcontext():
            losses = model(batch)
        sum(losses.values()).backward()
    finally:
        model.zero_grad(set_to_none=True)


def _say_need(images: int, step: Callable[[int], None]) -> None:
    before = _peak()
    step(1)
    need = _peak() - before
    logger.info(
        "SOLVER.AUTO_BATCH is for GPUs and changes nothing here: an image takes about %.1f GiB of "
        "memory, a step of %d images at once %.1f GiB; SOLVER.ACCUMULATE divides it",
        need / _GIB, images, need * images / _GIB,
    )  # fmt: skip


def _peak() -> int:
    """Return the most bytes that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def _kept_buffers(model: nn.Module) -> Iterator[None]:
    """Put the buffers of a model, such as the statistics of batch norms, back at the end."""
    copies = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, copy in copies:
            buffer.copy_(copy)
