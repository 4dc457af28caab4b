"""Repeat a training step whose loss was not finite, and name the first tensor that is not finite.

    python -m mask2former.engine.replay output/run/failure

DIR is the folder that training has written, or the OUTPUT_DIR that it is in. The step is repeated
on the CPU, or with --device cuda on the GPU, in the precision of the training, with its weights
and random numbers; nothing is changed in DIR.
"""

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from ...config.loading import changed
from ...errors import UserError, one_line
from ...modeling.build import build_model
from ...random_state import set_random_state
from ..step import TrainStep
from .saving import CURE, FOLDER, Failure, load_failure
from .search import FirstNotFinite, describe, first_not_finite


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with these arguments, by default those of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m mask2former.engine.replay",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder of the failed step")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda; by default cpu")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING)
    with one_line("mask2former.engine.replay"):
        inside = args.folder / FOLDER
        for line in replay(inside if inside.is_dir() else args.folder, args.device):
            print(line)


def replay(folder: Path, device: str = "cpu") -> Iterator[str]:
    """Repeat a failed step; yield what is found, line by line.

    Raises:
        FileNotFoundError: there is no failed step in the folder.
        UserError: it is of another version or damaged, or there is no such device.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no GPU here; leave the option out")
    failure, weights, cfg = load_failure(folder)
    yield f"iteration {failure.iteration}, process {failure.process}: {failure.message}"
    yield from _inputs(failure.batch)
    if bad := first_not_finite(failure.batch):
        yield f"first tensor that is not finite: the batch itself, {bad[0]}: {describe(bad[1])}"
        return
    if bad := first_not_finite(weights):
        yield f"first tensor that is not finite: the weights, {bad[0]}: {describe(bad[1])}"
        return
    # Weights are in the folder; the backbone's own need not be there.
    first = ("MODEL.WEIGHTS", "MODEL.TIMM.PRETRAINED", "MODEL.EOMT.STEM.PRETRAINED")  # not needed
    cfg = changed(cfg, "MODEL.DEVICE", device, *(x for key in first for x in (key, "")))
    model = build_model(cfg)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"{folder}: its weights are of another model than its config ({error!s:.200}); {CURE}"
        ) from error
    yield from _step(failure, model, cfg.SOLVER.get("ACCUMULATE", 1))


def _step(failure: Failure, model: nn.Module, accumulate: int) -> Iterator[str]:
    device = next(model.parameters()).device.type
    precision = str(failure.dtype or torch.float32).removeprefix("torch.")
    other = "" if device == failure.device else f"; the training ran on {failure.device}"
    yield f"repeated on {device} in {precision}{other}"
    options = {} if accumulate == 1 else {"accumulate": accumulate}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    step = TrainStep(model, (), optimizer, autocast_dtype=failure.dtype, **options)
    watch = FirstNotFinite(model)
    _restore(failure.random_state)
    with watch.watching(), EventStorage(failure.iteration):  # POINT_SEED needs the iteration
        losses = step.add_gradients(failure.batch)
    bad = [f"{name} {value.item():g}" for name, value in losses.items() if not value.isfinite()]
    yield f"losses that are not finite: {', '.join(bad) or 'none'}"
    if watch.found is None:
        watch.found = _gradient(dict(model.named_parameters()))
    if watch.found is None:
        yield (
            "all tensors are finite here: the failure came of what differs between the machines "
            "(--device cuda repeats it on a GPU)"
        )
    else:
        yield f"first tensor that is not finite, after {watch.calls} modules: {watch.found}"


def _restore(state: Any) -> None:
    try:
        set_random_state(state)
    except Exception as error:  # of any kind, as each library checks its own state, or does not
        raise UserError(
            f"the states of the random generators are damaged ({error!r:.200}); {CURE}"
        ) from error


def _gradient(parameters: Mapping[str, nn.Parameter]) -> str | None:
    gradients: dict[str, Tensor] = {n: p.grad for n, p in parameters.items() if p.grad is not None}
    bad = first_not_finite(gradients)
    return bad and f"the gradient of {bad[0]}: {describe(bad[1])}"


def _inputs(batch: Any) -> Iterator[str]:
    for item in batch if isinstance(batch, list) else ():
        if not isinstance(item, Mapping) or "image" not in item:
            continue
        frames = item["image"] if isinstance(item["image"], list | tuple) else [item["image"]]
        if not frames or not isinstance(frames[0], Tensor) or frames[0].dim() < 2:
            raise UserError(f"expected an image in the batch, got {frames!r:.80}; {CURE}")
        targets = item.get("instances")
        has_objects = hasattr(targets, "get_fields") and targets.get_fields()
        count = f", {len(targets)} objects" if has_objects else ""
        height, width = frames[0].shape[-2:]
        name = item.get("file_name", "an input")
        yield f"  {name}: {len(frames)} x {width}x{height} (width x height){count}"
