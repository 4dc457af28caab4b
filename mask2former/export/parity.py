"""Whether an exported file computes what the model does: on noise always, on photos if wanted."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.structures import ImageList
from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from ..predict import Predictor
from .formats.onnx_format import Run
from .graphs import Graph

MAX_LOGIT_DIFFERENCE = 1e-3  # of the range of the model's own logits
MAX_PIXELS = 1e-3  # fraction of pixels with another class or segment

Result = dict[str, float | int]


def largest_difference(found: Sequence[np.ndarray], expected: Sequence[Tensor]) -> float:
    """Return the largest difference of outputs, relative to the range of each expected one.

    Raises:
        ValueError: they are of other shapes.
    """
    worst = 0.0
    for ours, theirs in zip(found, expected, strict=True):
        if tuple(ours.shape) != tuple(theirs.shape):
            raise ValueError(
                f"the exported file gives an output of shape {tuple(ours.shape)}, the model "
                f"{tuple(theirs.shape)}"
            )
        wide = theirs.double()
        spread = float(wide.max() - wide.min()) or 1.0
        worst = max(worst, float((torch.from_numpy(ours).double() - wide).abs().max()) / spread)
    return worst


@torch.no_grad()
def check_random(graph: Graph, run: Run, dtype: torch.dtype) -> Result:
    """Compare on noise, of another batch and size than was traced; returns as `compare`.

    Args:
        graph: what was exported.
        run: runs the file.
        dtype: of the images.
    """
    generator = torch.Generator().manual_seed(0)
    side = graph.divisibility
    images = torch.randint(0, 256, (1, 3, 4 * side, 2 * side), generator=generator).to(dtype)
    return compare(graph, run, images)


@torch.no_grad()
def compare(graph: Graph, run: Run, images: Tensor) -> Result:
    """Run graph and file on a batch, in halves of the images as masks where masks are given.

    Returns:
        `logits`, see `largest_difference`; or, with results in the graph, `pixels`, the fraction of
        numbers that differ in the first output.
    """
    expected, found = outputs_of_both(graph, run, images)
    if expected[0].is_floating_point():
        return {"logits": largest_difference(found, expected)}
    return {"pixels": _fraction(torch.from_numpy(found[0]), expected[0])}


def outputs_of_both(
    graph: Graph, run: Run, images: Tensor
) -> tuple[tuple[Tensor, ...], list[np.ndarray]]:
    """Return the outputs of graph and file for images (B, 3, H, W) in 0..255; both in one order."""
    inputs = (images, _halves(images)) if len(graph.input_names) > 1 else (images,)
    return as_tuple(graph(*inputs)), run(*(x.numpy() for x in inputs))


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return outputs as a tuple also where there is one."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def prepare_photos(predictor: Predictor, graph: Graph, photos: Iterable[Any]) -> list[dict]:
    """Read photos for `check_photos`.

    Args:
        predictor: of the model that is exported.
        graph: what is exported.
        photos: as the predictor takes them; for a model of clips, the frames of one clip.

    Raises:
        FileNotFoundError, UserError: one cannot be read, or frames are of several sizes.
    """
    prepared = [predictor.prepare(photo) for photo in photos]
    sizes = {tuple(x["image"].shape[-2:]) for x in prepared}
    if graph.kind == "clip" and len(sizes) > 1:
        raise UserError(
            "expected frames of one clip, all of one size, to compare a model for videos on; got "
            f"sizes that become {' and '.join(f'{h}x{w}' for h, w in sorted(sizes))}"
        )
    return prepared


@torch.no_grad()
def check_photos(
    predictor: Predictor, graph: Graph, run: Run, prepared: Sequence[dict], dtype: torch.dtype
) -> Result:
    """Compare logits and results on photos.

    Args:
        predictor: of the model that was exported.
        graph: what was exported.
        run: runs the file.
        prepared: the photos, see `prepare_photos`.
        dtype: of the images.

    Returns:
        `photos`, how many; what `compare` returns, the largest; and, for logits of images,
        `panoptic_pixels` and `semantic_pixels`, mean fractions of pixels that differ, where the
        model has such results.
    """
    batches = [list(prepared)] if graph.kind == "clip" else [[x] for x in prepared]
    results: dict[str, list[float]] = {}
    for batch in batches:
        images = _canvas(graph, [x["image"] for x in batch]).to(dtype)
        for name, value in _compare_photo(predictor, graph, run, batch[0], images).items():
            results.setdefault(name, []).append(value)
    worst = {k: max(v) for k, v in results.items() if k in ("logits", "pixels")}
    means = {k: float(np.mean(v)) for k, v in results.items() if k not in worst}
    return {"photos": len(prepared), **worst, **means}


def _compare_photo(
    predictor: Predictor, graph: Graph, run: Run, x: dict, images: Tensor
) -> dict[str, float]:
    expected, found = outputs_of_both(graph, run, images)
    if not expected[0].is_floating_point():
        return {"pixels": _fraction(torch.from_numpy(found[0]), expected[0])}
    result = {"logits": largest_difference(found, expected)}
    if graph.kind == "image":
        result |= _compare_results(predictor, x, images, (expected, found))
    elif graph.kind == "per_pixel":
        maps = [torch.as_tensor(y[0]).argmax(1) for y in (expected, found)]
        result["semantic_pixels"] = _fraction(*maps)
    return result


def _canvas(graph: Graph, images: Sequence[Tensor]) -> Tensor:
    """Pad images of one size with the mean, which is zero once it is normalised."""
    stacked = torch.stack(list(images)).float()
    height, width = stacked.shape[-2:]
    step = graph.divisibility
    mean = graph.model.pixel_mean.to(stacked)
    padded = F.pad(stacked - mean, (0, -width % step, 0, -height % step))
    return padded + mean


def _halves(images: Tensor) -> Tensor:
    """Return two halves of images as given masks (B, 2, H, W)."""
    masks = torch.zeros(len(images), 2, *images.shape[2:])
    masks[:, 0, : images.shape[2] // 2] = 1
    masks[:, 1, :, : images.shape[3] // 3] = 1
    return masks


def _compare_results(
    predictor: Predictor, x: dict, images: Tensor, logits: tuple[Sequence[Any], Sequence[Any]]
) -> dict[str, float]:
    """Merge two sets of logits as the model does; return the fractions of pixels that differ."""
    model = predictor.model
    height, width = x["image"].shape[-2:]
    (canvas,) = model.canvases([x], ImageList(images, [(height, width)]))
    one, other = (
        model.segment(*(torch.as_tensor(part[0]).to(model.device) for part in both), canvas)
        for both in logits
    )
    result = {}
    if "panoptic_seg" in one:
        maps = [_classes_of(x["panoptic_seg"]) for x in (one, other)]
        result["panoptic_pixels"] = _fraction(*maps)
    if "sem_seg" in one:
        maps = [x["sem_seg"] for x in (one, other)]  # scores (K, H, W), or classes already
        maps = [m.argmax(0) if m.dim() == 3 else m for m in maps]
        result["semantic_pixels"] = _fraction(*maps)
    return result


def _classes_of(panoptic: tuple[Tensor, list[dict]]) -> Tensor:
    """Return a map of class and number within the class, -1 for void."""
    ids, segments = panoptic
    table, counts = torch.full((len(segments) + 1,), -1), {}
    for segment in segments:
        category = segment["category_id"]
        counts[category] = counts.get(category, 0) + 1
        table[segment["id"]] = category * 1000 + counts[category]
    return table[ids.cpu().long()]


def _fraction(one: Tensor, other: Tensor) -> float:
    return float((one != other).float().mean())


def require_parity(result: Result, where: str) -> None:
    """Raise a UserError if an exported file differs too much from its model."""
    limits = {
        "logits": MAX_LOGIT_DIFFERENCE,
        "pixels": MAX_PIXELS,
        "panoptic_pixels": MAX_PIXELS,
        "semantic_pixels": MAX_PIXELS,
    }
    beyond = [
        f"{name} {result[name]:.2g} (at most {limit:g})"
        for name, limit in limits.items()
        if not result.get(name, 0) <= limit
    ]
    if beyond:
        raise UserError(f"{where} differs from the model: {', '.join(beyond)}; it is not written")
