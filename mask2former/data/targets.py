"""Turn annotations into targets: one class and one mask for each thing or region to be found.

Masks are made for the transformed image. Their ``canvas`` (H, W) may be larger than the image,
which then lies in the upper left of it; what lies outside of the image belongs to no mask.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..annotations.readers.panoptic import require_listed
from ..errors import UserError
from ..formats.label_maps import look_up, values_in
from ..formats.segmentations import decode_bitmap, rasterise, valid_polygons
from .agreement.num_classes import check_classes
from .geometry import Geometry

Size = tuple[int, int]  # H, W in pixels
Annotation = Mapping[str, Any]


@dataclass
class Targets:
    """N targets of one image.

    Attributes:
        classes: (N,) int64.
        masks: (N, H, W) bool.
        inside: (N,) bool, whether any of the target lies within the image. One that does may still
            have an empty mask, when it is too small to hold the centre of a pixel.
    """

    classes: np.ndarray
    masks: np.ndarray
    inside: np.ndarray

    def select(self, keep: np.ndarray) -> "Targets":
        """Return those targets where ``keep`` (N,) bool is set."""
        if keep.all():
            return self
        return Targets(self.classes[keep], self.masks[keep], self.inside[keep])

    def boxes(self) -> np.ndarray:
        """Return tight boxes (N, 4) float32 of x0, y0, x1, y1 in pixels; 0 for empty masks."""
        boxes = np.zeros((len(self.masks), 4), np.float32)
        for box, mask in zip(boxes, self.masks):
            rows = np.flatnonzero(mask.any(axis=1))
            if rows.size:
                columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
                box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return boxes


def semantic_targets(
    labels: np.ndarray, ignore_label: int, canvas: Size, num_classes: int | None = None
) -> Targets:
    """Return one target for each class that occurs, in ascending order.

    Args:
        labels: (h, w) classes of the image's pixels, not negative.
        ignore_label: of pixels without a class.
        canvas: (H, W) of the masks.
        num_classes: K; None leaves classes unchecked.

    Raises:
        UserError: a class that is not in 0..K-1.
    """
    classes = np.array(sorted(values_in(labels) - {ignore_label}), np.int64)
    check_classes(classes, num_classes, lambda i: "the label map")  # before masks of them all
    return _from_codes(labels, classes, classes, canvas)


def relabel(labels: np.ndarray, numbers: Sequence[int], ignore_label: int) -> np.ndarray:
    """Replace ``numbers[i]`` in a label map (H, W) by ``i`` and all else by ``ignore_label``.

    Returns:
        (H, W) uint16.
    """
    return look_up(labels, {n: i for i, n in enumerate(numbers)}, ignore_label, np.uint16)


def panoptic_targets(codes: np.ndarray, segments: Sequence[Annotation], canvas: Size) -> Targets:
    """Return one target for each segment that is no crowd, in their order, with or without pixels.

    Args:
        codes: (h, w), ``i + 1`` where ``segments[i]`` lies, as ``compact_ids`` gives it.
        segments: with "category_id" and perhaps "iscrowd".
        canvas: (H, W) of the masks.
    """
    kept = [i for i, segment in enumerate(segments) if not segment.get("iscrowd", 0)]
    classes = [segments[i]["category_id"] for i in kept]
    return _from_codes(codes, np.array(kept, np.int64) + 1, np.array(classes, np.int64), canvas)


def compact_ids(ids: np.ndarray, segments: Sequence[Annotation]) -> np.ndarray:
    """Replace the ids of a panoptic map by indices into the list of segments.

    Args:
        ids: (H, W) int32, 0 for void.
        segments: with "id".

    Returns:
        (H, W) uint8, or uint16 where there are more than 255 segments: ``i + 1`` for the id of
        ``segments[i]``, 0 for void.

    Raises:
        UserError: an id that the list lacks, or one that it has twice.
    """
    listed = [segment["id"] for segment in segments]
    if len(set(listed)) < len(listed):
        raise UserError(f"a segment id occurs more than once in {sorted(listed)}")
    require_listed(ids, listed)
    codes = {i: code for code, i in enumerate(listed, 1)}
    return look_up(ids, codes, 0, np.uint8 if len(listed) < 256 else np.uint16)


def instance_targets(
    annotations: Sequence[Annotation],
    geometry: Geometry,
    size: Size,
    canvas: Size,
    *,
    crowd: bool = False,
) -> Targets:
    """Return one target for each annotation that is no crowd and has a valid polygon or mask.

    Polygons are transformed as points and rasterised afterwards by COCO's rules, so that their
    edges stay sharp at any scale. RLE and bitmaps are sampled at the nearest pixel.

    Args:
        annotations: with "category_id" and "segmentation", see ``segmentations``.
        geometry: the transforms of the image.
        size: (h, w) of the transformed image.
        canvas: (H, W) of the masks.
        crowd: take those that are crowd instead.

    Raises:
        UserError: a segmentation that cannot be read; names the annotation.
    """
    polygons = {
        i: valid_polygons(annotation, i)
        for i, annotation in enumerate(annotations)
        if bool(annotation.get("iscrowd", 0)) == crowd
    }
    kept = [i for i, parts in polygons.items() if parts is None or parts]
    masks = np.zeros((len(kept), *canvas), bool)
    views = masks[:, : size[0], : size[1]]
    inside = np.zeros(len(kept), bool)
    for row, i in enumerate(kept):
        if parts := polygons[i]:
            inside[row] = rasterise([geometry.apply_points(part) for part in parts], views[row])

    rows = [row for row, i in enumerate(kept) if polygons[i] is None]
    bitmaps = [decode_bitmap(annotations[kept[row]], kept[row], geometry.size) for row in rows]
    for row, bitmap in zip(rows, _transform_bitmaps(bitmaps, geometry)):
        views[row] = bitmap
        inside[row] = bitmap.any()

    classes = np.array([annotations[i]["category_id"] for i in kept], np.int64)
    return Targets(classes, masks, inside)


def padding_mask(geometry: Geometry, size: Size, canvas: Size) -> np.ndarray:
    """Return pixels (H, W) of the canvas that no pixel of the file was transformed to."""
    padding = np.ones(canvas, bool)
    from_file = geometry.apply_labels(np.ones(geometry.size, np.uint8))
    padding[: size[0], : size[1]] = from_file == 0
    return padding


def ignore_map(masks: np.ndarray, crowd: np.ndarray | None, padding: np.ndarray) -> np.ndarray:
    """Return pixels (H, W) that no target covers and that are not known to be background.

    Args:
        masks: (N, H, W) bool of the targets.
        crowd: (M, H, W) bool of crowd regions, where all else is background; None where every
            pixel of the background has a target of its own.
        padding: (H, W) bool.
    """
    uncovered = ~masks.any(axis=0)
    return uncovered if crowd is None else uncovered & (padding | crowd.any(axis=0))


def _from_codes(
    codes: np.ndarray, wanted: np.ndarray, classes: np.ndarray, canvas: Size
) -> Targets:
    """Return one mask for each of the ``wanted`` values of ``codes`` (h, w)."""
    height, width = codes.shape
    masks = np.zeros((len(wanted), *canvas), bool)
    for mask, code in zip(masks, wanted.astype(codes.dtype)):
        np.equal(codes, code, out=mask[:height, :width])
    return Targets(classes.astype(np.int64), masks, masks.any(axis=(1, 2)))


def _transform_bitmaps(bitmaps: Sequence[np.ndarray], geometry: Geometry) -> Iterator[np.ndarray]:
    """Transform bitmaps (H, W), eight at a time as the bits of one map of uint8: half the time."""
    for start in range(0, len(bitmaps), 8):
        group = bitmaps[start : start + 8]
        bits = np.zeros(geometry.size, np.uint8, order="F")  # as pycocotools has it
        for bit, bitmap in enumerate(group):
            bits |= bitmap << np.uint8(bit)
        moved = geometry.apply_labels(np.ascontiguousarray(bits))
        for bit in range(len(group)):
            yield (moved & np.uint8(1 << bit)) != 0
