"""COCO run-length encodings: reading, writing, and laying the frames of a video side by side.

An RLE is ``{"size": [H, W], "counts": ...}``. The counts are lengths of runs of background and
foreground in turn, background first, down the columns; compressed to a string, or as a list.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..errors import UserError

RLE = dict[str, Any]

_MAX_PIXELS = 2**32 - 1  # pycocotools counts pixels in 32 bits


def encode_masks(masks: Any) -> list[RLE]:
    """Encode masks one at a time, so that no second copy of all of them is made.

    Args:
        masks: (N, H, W) bool, or numbers of which those above 0.5 are foreground; an array, or a
            tensor.

    Returns:
        N compressed RLE whose counts are ``str``, fit for json.

    Raises:
        ValueError: another number of axes.
    """
    if not hasattr(masks, "shape"):
        masks = np.asarray(masks)
    if len(masks.shape) != 3:
        raise ValueError(f"masks: expected (N, H, W), got shape {tuple(masks.shape)}")
    return [_encode(mask if isinstance(mask, np.ndarray) else mask.cpu().numpy()) for mask in masks]


def _encode(mask: np.ndarray) -> RLE:
    mask = mask if mask.dtype == bool else mask > 0.5
    columns = np.ascontiguousarray(mask.T).reshape(-1)
    flips = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    if columns[:1].any():
        flips = np.concatenate(([0], flips))
    return _from_flips(flips, *mask.shape)


@cache  # and no import at the top: what runs exported models does without
def _pycocotools() -> Any:
    import pycocotools.mask

    return pycocotools.mask


def _for_json(rle: RLE) -> RLE:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def merge(rles: Sequence[Mapping[str, Any]]) -> RLE:
    """Return the union of compressed RLE, at least one."""
    return _for_json(_pycocotools().merge(rles))


def draw_polygons(polygons: Sequence[np.ndarray], height: int, width: int) -> RLE:
    """Rasterise polygons (P, 2), x and y in pixels, three points or more each, as one mask.

    Memory is in proportion to the length of their outlines.

    Raises:
        UserError: the image has more pixels than an RLE can count.
    """
    _check_size(height, width)
    flat = [polygon.reshape(-1) for polygon in polygons]
    return merge(_pycocotools().frPyObjects(flat, height, width))


def _check_size(height: int, width: int) -> None:
    if height * width > _MAX_PIXELS:
        raise UserError(f"{height} x {width} pixels are more than an RLE can count")


def encode_segments(segment_map: np.ndarray, ids: Sequence[int]) -> list[RLE]:
    """Encode segments of a map in one pass, however many there are.

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


def as_text(rle: Mapping[str, Any], height: int, width: int) -> RLE:
    """Return an RLE in any form as a compressed one, after a check.

    Args:
        rle: with counts as text, bytes or list.
        height, width: the size in pixels that it must have.

    Raises:
        UserError: as `run_lengths`.
    """
    return from_runs(run_lengths(rle, height, width), height, width)


def run_lengths(rle: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """Return the lengths of the runs of an RLE.

    All RLE from files pass here before pycocotools gets them: where runs do not cover the image, it
    waits for ever, or decodes memory that nobody has written.

    Args:
        rle: with counts as text, bytes or list.
        height, width: the size in pixels that it must have.

    Returns:
        int64 (R,), background first.

    Raises:
        UserError: another size, or counts that are damaged or do not cover the image.
    """
    size, counts = rle.get("size"), rle.get("counts")
    _check_size(height, width)
    if not isinstance(size, Sequence | np.ndarray) or list(size) != [height, width]:
        raise UserError(f"RLE size: expected [{height}, {width}], got {size}")
    if isinstance(counts, str):
        counts = counts.encode("ascii", errors="replace")
    if isinstance(counts, bytes):
        runs = _decode_counts(counts)
    else:
        try:
            runs = np.asarray(counts, np.int64).reshape(-1)
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError("RLE counts: expected text or a list of integers") from error
    if runs.min(initial=0) < 0 or runs.sum() != height * width:
        raise UserError(
            f"RLE counts: expected runs >= 0 that cover {height} x {width} pixels, "
            f"got {runs.size} runs over {int(runs.sum())} of {height * width} pixels"
        )
    return runs


def _decode_counts(text: bytes) -> np.ndarray:
    """Run lengths of COCO's compressed text, which may be negative where it was made up.

    A number has 5 bits a character, lowest first; bit 5 says that more follow. From the fourth on,
    it is the difference to the one two before it.
    """
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    if ends[-1:].tolist() != [codes.size - 1] or codes.min() < 0 or codes.max() > 63:
        raise UserError("RLE counts: the text is damaged or cut short")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise UserError("RLE counts: a run is longer than any image")
    position = np.arange(codes.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * position), starts)
    values -= np.where(codes[ends] & 0x10, 1 << (5 * lengths), 0)  # sign extension
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def decode(rle: RLE) -> np.ndarray:
    """Return the mask (H, W), uint8 of 0 and 1, of a compressed RLE that was checked."""
    return _pycocotools().decode(rle)


def paint(rle: RLE, mask: np.ndarray) -> None:
    """Set the pixels of ``mask`` (H, W) bool that a compressed RLE covers.

    Only its bounding box is decoded: for objects in a large image a third of the time.
    """
    height, width = mask.shape
    left, top, columns, rows = map(int, bounding_box(rle))
    if not columns:
        return
    ends = np.cumsum(run_lengths(rle, height, width)) - left * height
    runs = np.diff(np.clip(ends, 0, columns * height), prepend=0)
    is_inside = np.arange(runs.size) % 2 == 1
    box = np.repeat(is_inside, runs).reshape(columns, height)[:, top : top + rows].T
    mask[top : top + rows, left : left + columns] |= box


def area(rle: RLE) -> int:
    """Return the number of foreground pixels of a compressed RLE."""
    return int(_pycocotools().area(rle))


def bounding_box(rle: Mapping[str, Any]) -> list[float]:
    """Return x, y, width and height in pixels of a compressed RLE; 0 where it is empty."""
    return _pycocotools().toBbox(rle).tolist()


def concatenate_frames(
    frames: Sequence[np.ndarray | None], frame_height: int, frame_width: int
) -> RLE:
    """Lay the masks of T frames side by side, as one mask of (H, T W) pixels.

    As runs go down the columns, this appends one frame's runs to the last one's.

    Args:
        frames: T arrays of run lengths, as ``run_lengths`` gives them; None for an empty frame.
        frame_height, frame_width: size H, W of every frame in pixels.

    Raises:
        UserError: the T frames together have more pixels than an RLE can count (2^32 - 1).
    """
    pixels = frame_height * frame_width
    if pixels * len(frames) > _MAX_PIXELS:
        raise UserError(
            f"{len(frames)} frames of {frame_height} x {frame_width} have more than {_MAX_PIXELS} "
            "pixels, which is as far as pycocotools counts; split the video in its annotation file"
        )
    flips = [
        np.cumsum(runs[: runs.size // 2 * 2]) + t * pixels  # a last run of background ends nothing
        for t, runs in enumerate(frames)
        if runs is not None
    ]
    # Two flips at one pixel cancel: that merges runs that touch across a frame's border.
    pixel, times = np.unique(np.concatenate(flips or [np.zeros(0, np.int64)]), return_counts=True)
    return _from_flips(pixel[times % 2 == 1], frame_height, frame_width * len(frames))


def from_intervals(
    intervals: np.ndarray, height: int, width: int
) -> tuple[RLE, tuple[int, int, int, int]]:
    """Return the union of runs as a compressed RLE, and its box: x, y, width and height in pixels.

    Memory is in proportion to the number of runs, whatever the size of the image.

    Args:
        intervals: (R, 2), R > 0, the first place of each run and the one after its last, counted
            down the columns; in any order, and each in one column.
    """
    first, last = intervals[:, 0], intervals[:, 1] - 1
    x, y = int(first.min()) // height, int((first % height).min())
    right, bottom = int(last.max()) // height, int((last % height).max())
    order = np.argsort(first, kind="stable")
    starts, ends = first[order], np.maximum.accumulate(intervals[order, 1])
    apart = starts[1:] > ends[:-1]
    flips = np.stack((starts[np.append(True, apart)], ends[np.append(apart, True)]), 1).reshape(-1)
    return _from_flips(flips, height, width), (x, y, right + 1 - x, bottom + 1 - y)


def _from_flips(flips: np.ndarray, height: int, width: int) -> RLE:
    """Return an RLE from the pixels where foreground begins, ends, begins, ..., in order."""
    runs = np.diff(flips, prepend=0, append=height * width)
    return from_runs(runs[: runs.size - (runs[-1] == 0)], height, width)


def from_runs(runs: np.ndarray, height: int, width: int) -> RLE:
    """Return the compressed RLE of run lengths (R,), background first; undoes ``run_lengths``."""
    values = np.array(runs, np.int64)
    values[3:] -= np.asarray(runs, np.int64)[1:-2]
    characters = []
    left = np.ones(values.size, bool)  # numbers that have characters to come
    while left.any():
        low = values & 0x1F
        values >>= 5
        more = values != np.where(low & 0x10, -1, 0)  # the sign is that of bit 4
        characters.append(np.where(left, low + 0x20 * more + 48, 0))
        left &= more
    codes = np.stack(characters, 1).astype(np.uint8) if characters else np.zeros(0, np.uint8)
    return {"size": [int(height), int(width)], "counts": codes[codes > 0].tobytes().decode("ascii")}
