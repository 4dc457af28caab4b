"""COCO run-length encodings: reading, writing, and laying the frames of a video side by side.

An RLE is ``{"size": [H, W], "counts": ...}``. The counts are lengths of runs of background and
foreground in turn, background first, down the columns; compressed to a string, or as a list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch

from .rle_text import decode_counts

RLE = dict[str, Any]

# Six bits a character from "0" on, the last one without the bit that promises another: pycocotools
# would read on past the end.
_TEXT = re.compile(r"[0-o]*[0-O]")
_MAX_PIXELS = 2**32 - 1  # pycocotools counts pixels in 32 bits


def encode_masks(masks: torch.Tensor | np.ndarray) -> list[RLE]:
    """Encodes masks one at a time, so that no second copy of all of them is made.

    Args:
        masks: (N, H, W) bool, or numbers of which those above 0.5 are foreground.

    Returns:
        N compressed RLE whose counts are ``str``, fit for json.
    """
    masks = torch.as_tensor(masks)
    if masks.ndim != 3:
        raise ValueError(f"masks: expected (N, H, W), got shape {tuple(masks.shape)}")
    if masks.dtype != torch.bool:
        masks = masks > 0.5
    return [_encode(mask) for mask in masks.cpu()]


def _encode(mask: torch.Tensor) -> RLE:
    columns = mask.t().contiguous().view(torch.uint8).numpy()  # (W, H): memory runs down columns
    return _as_text(mask_util.encode(columns.T))


def _as_text(rle: RLE) -> RLE:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def encode_segments(segment_map: np.ndarray, ids: Sequence[int]) -> list[RLE]:
    """Encodes segments of a map in one pass, however many there are.

    Args:
        segment_map: (H, W) integers.
        ids: N values; the result is the mask of pixels that have the value, for each of them.
    """
    pixels = segment_map.T.reshape(-1)  # down the columns
    starts = np.concatenate(([0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1))
    ends = np.append(starts[1:], pixels.size)
    order = np.argsort(pixels[starts], kind="stable")
    values = pixels[starts][order]
    first, last = np.searchsorted(values, ids, "left"), np.searchsorted(values, ids, "right")
    flips = np.stack((starts[order], ends[order]), axis=1)
    return [_from_flips(flips[a:b].reshape(-1), *segment_map.shape) for a, b in zip(first, last)]


def compress(segmentation: Any, height: int, width: int) -> RLE:
    """Turns a mask as annotation files hold it into a compressed RLE.

    Args:
        segmentation: RLE with counts as text, bytes or list; or a list of polygons
            ``[x0, y0, x1, y1, ...]`` in pixels.
        height, width: size in pixels of the image that the mask belongs to.

    Raises:
        ValueError: the size differs from ``(height, width)``, the counts are damaged, or it is no
            mask at all.
    """
    if isinstance(segmentation, dict):
        counts = segmentation.get("counts")
        if isinstance(counts, str) and _TEXT.fullmatch(counts):
            _check_size(segmentation, height, width)
            return {"size": [height, width], "counts": counts}  # no need to look into it
        return from_runs(run_lengths(segmentation, height, width), height, width)
    if isinstance(segmentation, list) and all(isinstance(part, list) for part in segmentation):
        # A polygon needs three corners; pycocotools would take four numbers for a box.
        polygons = [part for part in segmentation if len(part) >= 6 and len(part) % 2 == 0]
        if not polygons:
            return from_runs(np.array([height * width]), height, width)
        return _as_text(mask_util.merge(mask_util.frPyObjects(polygons, height, width)))
    raise ValueError(
        "segmentation: expected an RLE {'size', 'counts'} or a list of polygons, "
        f"got {type(segmentation).__name__}"
    )


def run_lengths(rle: RLE, height: int, width: int) -> np.ndarray:
    """Lengths of the runs of an RLE.

    Args:
        rle: with counts as text, bytes or list.
        height, width: the size in pixels that it must have.

    Returns:
        int64 (R,), background first.

    Raises:
        ValueError: another size, counts that are damaged or cover more than the image.
    """
    _check_size(rle, height, width)
    counts = rle.get("counts")
    if isinstance(counts, str):
        counts = counts.encode("ascii", errors="replace")
    if isinstance(counts, bytes):
        runs = decode_counts(counts)
    else:
        runs = np.asarray(counts if counts is not None else [], dtype=np.int64).reshape(-1)
    if runs.size == 0 or runs.min() < 0 or runs.sum() > height * width:
        raise ValueError(
            f"RLE counts: expected runs >= 0 that cover {height} x {width} pixels, "
            f"got {runs.size} runs over {int(runs.sum())} pixels"
        )
    return runs


def _check_size(rle: RLE, height: int, width: int) -> None:
    size = list(rle.get("size", ()))
    if size != [height, width]:
        raise ValueError(f"RLE size: expected [{height}, {width}], got {size}")


def concatenate_frames(
    frames: Sequence[np.ndarray | None], frame_height: int, frame_width: int
) -> RLE:
    """Lays the masks of T frames side by side, as one mask of (H, T W) pixels.

    As runs go down the columns, this appends one frame's runs to the last one's.

    Args:
        frames: T arrays of run lengths, as ``run_lengths`` gives them; None for an empty frame.
        frame_height, frame_width: size H, W of every frame in pixels.

    Raises:
        ValueError: the T frames together have more pixels than an RLE can count (2^32 - 1).
    """
    pixels = frame_height * frame_width
    if pixels * len(frames) > _MAX_PIXELS:
        raise ValueError(
            f"{len(frames)} frames of {frame_height} x {frame_width} have more than {_MAX_PIXELS} "
            "pixels, which is as far as pycocotools counts; split the video in its annotation file"
        )
    flips = [
        np.cumsum(runs[: runs.size // 2 * 2]) + t * pixels  # a last run of background ends nothing
        for t, runs in enumerate(frames)
        if runs is not None
    ]
    # Two flips at one place cancel: that merges runs that touch across a frame's border.
    places, times = np.unique(np.concatenate(flips or [np.zeros(0, np.int64)]), return_counts=True)
    return _from_flips(places[times % 2 == 1], frame_height, frame_width * len(frames))


def _from_flips(places: np.ndarray, height: int, width: int) -> RLE:
    """An RLE from where foreground begins, ends, begins, ... in the order of pixels."""
    runs = np.diff(places, prepend=0, append=height * width)
    return from_runs(runs[: runs.size - (runs[-1] == 0)], height, width)


def from_runs(runs: np.ndarray, height: int, width: int) -> RLE:
    """The compressed RLE of run lengths, background first; undoes ``run_lengths``."""
    rle = {"size": [height, width], "counts": runs}
    return _as_text(mask_util.frPyObjects(rle, height, width))
