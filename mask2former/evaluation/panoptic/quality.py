"""Panoptic quality of segment maps held in memory.

PQ is defined in section 4 of Kirillov et al., "Panoptic Segmentation" (CVPR 2019). Where the paper
leaves a choice, the rule is that of the COCO panoptic evaluation; docstrings say where.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from ...errors import UserError
from ...formats.json_files import require_keys, require_list
from ...formats.segmentations import error_prefix

VOID = 0  # the id in a panoptic map of pixels without a segment


class PanopticQuality:
    """Matches, misses and their overlaps by category, summed over images.

    Args:
        categories: ``{"id", "isthing", ...}`` of every category, as in COCO panoptic json.
    """

    def __init__(self, categories: Sequence[Mapping[str, Any]]):
        categories = sorted(categories, key=lambda category: category["id"])
        self.ids = np.array([category["id"] for category in categories], dtype=np.int64)
        self.isthing = np.array([bool(category["isthing"]) for category in categories])
        if self.ids.size == 0 or np.unique(self.ids).size != self.ids.size:
            raise UserError(f"categories: expected distinct ids, at least one, got {self.ids}")
        self.iou_sum = np.zeros(self.ids.size)
        # true positives, false positives and false negatives of each category
        self.tp, self.fp, self.fn = np.zeros((3, self.ids.size), dtype=np.int64)

    def __iadd__(self, other: Self) -> Self:
        for name in ("iou_sum", "tp", "fp", "fn"):
            getattr(self, name).__iadd__(getattr(other, name))
        return self

    def add_image(
        self,
        gt_map: np.ndarray,
        gt_segments: Sequence[Mapping[str, Any]],
        pred_map: np.ndarray,
        pred_segments: Sequence[Mapping[str, Any]],
    ) -> float | None:
        """Count one image, and return its PQ over the segments of all categories together.

        Args:
            gt_map, pred_map: (H, W) integers >= 0, the segment id of each pixel, 0 = void.
            gt_segments, pred_segments: ``{"id", "category_id"}`` of each segment; the ground truth
                may have ``"iscrowd"`` too. Areas are those of the maps: the COCO evaluation takes
                those of the json, which are the same in a sound file.

        Returns:
            a number in 0..1; None where there is nothing to find, and nothing was found.

        Raises:
            UserError: the maps differ in size; a segment of the prediction is missing in its map
                or among ``pred_segments``; an id is listed twice; a category does not exist.
        """
        if gt_map.shape != pred_map.shape:
            raise UserError(
                f"size: the ground truth has {_size(gt_map)} pixels, the prediction "
                f"{_size(pred_map)}; resize the prediction to the size of the ground truth"
            )
        gt = _Segments(gt_segments, self.ids, "ground truth")
        pred = _Segments(pred_segments, self.ids, "prediction")
        gt_id, pred_id, pixels = count_pairs(gt_map, pred_map)
        gt_row, pred_row = gt.rows(gt_id), pred.rows(pred_id)
        _check_prediction(pred, pred_id, pred_row)
        # The last row and column, -1, are pixels outside of all segments.
        table = np.zeros((len(gt.ids) + 1, len(pred.ids) + 1))
        np.add.at(table, (gt_row, pred_row), pixels)
        void_area = np.zeros(len(pred.ids) + 1)
        void_area[pred_row[gt_id == VOID]] = pixels[gt_id == VOID]
        pred_area, void_area = table.sum(axis=0)[:-1], void_area[:-1]

        hit_gt, hit_pred, iou = _match(gt, pred, table, pred_area - void_area)
        np.add.at(self.tp, gt.cat[hit_gt], 1)
        np.add.at(self.iou_sum, gt.cat[hit_gt], iou)
        missed = ~gt.crowd
        missed[hit_gt] = False
        np.add.at(self.fn, gt.cat[missed], 1)
        crowd_area = self._crowd_area(gt, gt_segments, pred, table)
        wrong = (void_area + crowd_area) / pred_area <= 0.5
        wrong[hit_pred] = False
        np.add.at(self.fp, pred.cat[wrong], 1)
        total = len(iou) + (np.count_nonzero(wrong) + np.count_nonzero(missed)) / 2
        return float(iou.sum() / total) if total else None

    def _crowd_area(
        self,
        gt: "_Segments",
        gt_segments: Sequence[Mapping[str, Any]],
        pred: "_Segments",
        table: np.ndarray,
    ) -> np.ndarray:
        """Return the pixels of each prediction that lie in the crowd segment of its own class.

        The formats have one such segment a class and image; of several the COCO evaluation takes
        the one that is listed last, and so do we.
        """
        crowds = {s["category_id"]: s["id"] for s in gt_segments if s.get("iscrowd", 0)}
        rows = gt.rows(np.array([crowds.get(c, -1) for c in self.ids[pred.cat].tolist()], np.int64))
        return np.where(rows < 0, 0, table[rows, np.arange(len(rows))])

    def summary(self) -> dict[str, Any]:
        """Return the qualities, as fractions in [0, 1].

        Returns:
            ``{"All" | "Things" | "Stuff": {"pq", "sq", "rq", "n"},
            "per_class": {category id: {"pq", "sq", "rq", "tp", "fp", "fn"}}}``. ``n`` counts the
            categories that occur in ground truth or prediction, over which the means run; without
            any the means are NaN, and a category that does not occur has zeros.
        """
        total = self.tp + (self.fp + self.fn) / 2
        sq = self.iou_sum / np.maximum(self.tp, 1)
        rq = self.tp / np.where(total > 0, total, 1)
        table = np.stack([self.iou_sum / np.where(total > 0, total, 1), sq, rq], axis=1)
        groups = {"All": total > 0, "Things": self.isthing, "Stuff": ~self.isthing}
        result: dict[str, Any] = {
            name: _mean_qualities(table[group & (total > 0)]) for name, group in groups.items()
        }
        result["per_class"] = {
            int(category): dict(zip(("pq", "sq", "rq"), map(float, table[i]), strict=True))
            | {"tp": int(self.tp[i]), "fp": int(self.fp[i]), "fn": int(self.fn[i])}
            for i, category in enumerate(self.ids)
        }
        return result


def total_quality(
    categories: Sequence[Mapping[str, Any]], parts: Iterable[PanopticQuality]
) -> PanopticQuality:
    """Return the sum of what processes or parts of the images have counted."""
    total = PanopticQuality(categories)
    for part in parts:
        total += part
    return total


def count_pairs(gt_map: np.ndarray, pred_map: np.ndarray) -> tuple[np.ndarray, ...]:
    """Count the pixels of every pair of ids that meet.

    Segments are compact, so the runs of equal pairs along the rows are a few thousand where the
    pixels are hundreds of thousands; only the runs get sorted.

    Args:
        gt_map, pred_map: (H, W) integers in [0, 2^32).

    Returns:
        ids of the ground truth, ids of the prediction, pixels that have both: three int64 (R,).
    """
    gt, pred = gt_map.reshape(-1), pred_map.reshape(-1)
    changes = np.flatnonzero((gt[1:] != gt[:-1]) | (pred[1:] != pred[:-1])) + 1
    starts = np.concatenate(([0], changes))[: gt.size]  # no run in a map without pixels
    lengths = np.diff(starts, append=gt.size)
    keys = (gt[starts].astype(np.uint64) << np.uint64(32)) | pred[starts].astype(np.uint64)
    pairs, index = np.unique(keys, return_inverse=True)
    counts = np.bincount(index, weights=lengths, minlength=pairs.size).astype(np.int64)
    low = np.uint64(0xFFFFFFFF)
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & low).astype(np.int64), counts


class _Segments:
    """The columns of a list of segments, in the order of their ids."""

    def __init__(self, segments: Sequence[Mapping[str, Any]], category_ids: np.ndarray, whose: str):
        require_list(segments, f"{whose}: segments")
        for i, segment in enumerate(segments):
            with error_prefix(f"{whose}: segment number {i}"):
                require_keys(segment, ("id", "category_id"))
                for key in ("id", "category_id"):
                    _require_whole(segment[key], key)
        segments = sorted(segments, key=lambda segment: segment["id"])
        self.ids = np.array([segment["id"] for segment in segments], dtype=np.int64)
        twice = self.ids[1:][self.ids[1:] == self.ids[:-1]]
        if twice.size:
            raise UserError(f"{whose}: segment id {twice[0]} is listed more than once")
        cats = np.array([segment["category_id"] for segment in segments], dtype=np.int64)
        self.cat = np.minimum(np.searchsorted(category_ids, cats), category_ids.size - 1)
        unknown = np.flatnonzero(category_ids[self.cat] != cats)
        if unknown.size:
            raise UserError(
                f"{whose}: segment {self.ids[unknown[0]]} has category {cats[unknown[0]]}, "
                f"which is not among the {category_ids.size} categories of the ground truth"
            )
        self.crowd = np.array([bool(s.get("iscrowd", 0)) for s in segments], dtype=bool)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return the index of each id in the columns, or -1."""
        index = np.searchsorted(self.ids, ids)
        return np.where(np.append(self.ids, -2)[index] == ids, index, -1)


def _require_whole(value: Any, key: str) -> None:
    is_whole = isinstance(value, int | np.integer) and int(value).bit_length() < 64
    if not is_whole:
        raise UserError(f"{key}: expected a whole number, got {value!r:.80}")


def _match(
    gt: _Segments, pred: _Segments, table: np.ndarray, pred_area: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows of the pairs that match and their IoU; ``pred_area`` is without void pixels."""
    gt_area, shared = table[:-1].sum(axis=1), table[:-1, :-1]
    with np.errstate(invalid="ignore"):  # 0 / 0, where both have no area
        iou = shared / (gt_area[:, None] + pred_area - shared)
    # Above one half at most one prediction can match: no assignment needed.
    hit = (iou > 0.5) & (gt.cat[:, None] == pred.cat) & ~gt.crowd[:, None]
    return *np.nonzero(hit), iou[hit]


def _check_prediction(pred: _Segments, ids: np.ndarray, rows: np.ndarray) -> None:
    unlisted = ids[(rows < 0) & (ids != VOID)]
    if unlisted.size:
        raise UserError(
            f"prediction: segment id {unlisted[0]} is in the map (PNG) but not in the json"
        )
    absent = np.setdiff1d(pred.ids, ids)
    if absent.size:
        raise UserError(
            f"prediction: segment id {absent[0]} is in the json but not in the map (PNG)"
        )


def _mean_qualities(table: np.ndarray) -> dict[str, Any]:
    means = table.mean(axis=0) if len(table) else np.full(3, np.nan)
    return dict(zip(("pq", "sq", "rq"), map(float, means), strict=True)) | {"n": len(table)}


def _size(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape))
