"""Batches whose images share a canvas, so that results do not depend on what else is in a batch.

A batch is padded to its largest image, and padding is attended to, normalised over and convolved
into: as published, an image alone and the same image beside a larger one have different scores.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from torch import Tensor, nn

Call = Callable[[list[dict]], list[dict]]


def canvas_size(model: nn.Module, image: Tensor) -> tuple[int, int]:
    """Return (H, W) of the canvas that a model pads an image (3, h, w) to when it is alone."""
    backbone = getattr(model, "backbone", None)
    multiple = getattr(model, "size_divisibility", getattr(backbone, "size_divisibility", 1))
    multiple = max(multiple, 1)
    height, width = image.shape[-2:]
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def run_by_canvas(model: nn.Module, inputs: Sequence[dict], call: Call | None = None) -> list[dict]:
    """Run those inputs together whose images have one canvas, and return results in their order.

    Args:
        model: an image model in eval mode.
        inputs: as its `forward` takes them.
        call: what to run; the model by default.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for i, x in enumerate(inputs):
        groups.setdefault(canvas_size(model, x["image"]), []).append(i)
    results: list[dict] = [{}] * len(inputs)
    for indices in groups.values():
        for i, result in zip(indices, (call or model)([inputs[i] for i in indices]), strict=True):
            results[i] = result
    return results


def by_canvas(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a model's `forward` so that `batch_by_size` makes eval run by canvas."""

    @wraps(forward)
    def grouped(self: Any, batched_inputs: list[dict]) -> Any:
        if self.training or not self.batch_by_size:
            return forward(self, batched_inputs)
        return run_by_canvas(self, batched_inputs, lambda inputs: forward(self, inputs))

    return grouped
