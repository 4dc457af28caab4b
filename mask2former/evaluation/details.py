"""What scores leave out, as a file beside them: the worst images, confusions and curves.

`mask2former.engine.report` draws it. What stays in memory does not grow with the dataset.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pycocotools.mask as mask_util

from ..formats.json_files import write_json
from ..formats.rle import encode_segments
from ..formats.segmentations import compress
from ..results.regions import class_colour

WORST = 12  # images that are kept
_SURE = 0.5  # score from which on an instance counts where a single image is judged
_HIT = 0.5  # IoU likewise

Entry = dict[str, Any]


def write_details(folder: Path | None, task: str, **facts: Any) -> None:
    """Write ``<task>_details.json`` into a folder, atomically; nothing where there is no folder."""
    if folder is not None:
        write_json(folder / f"{task}_details.json", facts)


def class_colours(metadata: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the colours of classes in drawings, RGB in 0..255, by their names."""
    names = metadata.get("stuff_classes") or []
    return {
        name: (255 * class_colour(metadata, i)).round().astype(int).tolist()
        for i, name in enumerate(names)
    }


class WorstImages:
    """The images with the lowest scores, with what was predicted and what is true.

    Args:
        count: the number of images.
    """

    def __init__(self, count: int = WORST):
        self._count = count
        self._heap: list[tuple[float, str, dict[str, Any]]] = []  # of negative scores

    def offer(
        self, score: float | None, file_name: str, draw: Callable[[], tuple[list[Entry], ...]]
    ) -> None:
        """Keep an image if its score is among the lowest.

        Args:
            score: in 0..1; None where there is nothing to find, and nothing was found.
            file_name: of the photo.
            draw: returns the entries of prediction and truth: dicts with "category" (name),
                "label" (number), "isthing", "segmentation" (RLE) and, of instances, "score".
                Called for those images alone that are kept.
        """
        if score is None:
            return
        if len(self._heap) == self._count and -score <= self._heap[0][0]:
            return
        prediction, truth = draw()
        image = {"file_name": file_name, "score": score, "prediction": prediction, "truth": truth}
        self._push((-score, file_name, image))

    def __iadd__(self, other: Self) -> Self:
        for item in other._heap:
            self._push(item)
        return self

    def worst_first(self) -> list[dict[str, Any]]:
        """Return the images: ``{"file_name", "score", "prediction", "truth"}``."""
        return [image for *_, image in sorted(self._heap, key=lambda item: (-item[0], item[1]))]

    def _push(self, item: tuple[float, str, dict[str, Any]]) -> None:
        if any(name == item[1] for _, name, _ in self._heap):  # of a loader that fills up batches
            return
        push = heapq.heappush if len(self._heap) < self._count else heapq.heappushpop
        push(self._heap, item)


def segment_entries(
    segment_map: np.ndarray,
    segments: Iterable[Mapping[str, Any]],
    categories: Mapping[Any, tuple[str, int, bool]],
) -> list[Entry]:
    """Return the entries of segments that `WorstImages` keeps.

    Args:
        segment_map: (H, W) ids.
        segments: ``{"id", "category_id"}``; crowd is left out.
        categories: name, number and whether it is a thing, by category_id.
    """
    kept = [segment for segment in segments if not segment.get("iscrowd", 0)]
    masks = encode_segments(segment_map, [segment["id"] for segment in kept])
    return [_entry(*categories[s["category_id"]], mask) for s, mask in zip(kept, masks)]


def instance_entries(
    instances: Iterable[Mapping[str, Any]], names: Mapping[Any, tuple[str, int, bool]]
) -> list[Entry]:
    """Return the entries of COCO results, or of compressed ground truth, as `segment_entries`."""
    return [
        _entry(*names[x["category_id"]], x["segmentation"])
        | ({"score": x["score"]} if "score" in x else {})
        for x in instances
    ]


def _entry(name: str, label: int, is_thing: bool, mask: Any) -> Entry:
    return {"category": name, "label": label, "isthing": is_thing, "segmentation": mask}


def worst_instances(
    content: Mapping[str, Any],
    results: Mapping[Any, Sequence[Mapping[str, Any]]],
    file_names: Mapping[Any, str],
    key: Callable[[Any], Any],
) -> WorstImages:
    """Judge each image by the F1 score of its confident instances.

    Args:
        content: ground truth in COCO's form.
        results: with masks, by the key of the image.
        file_names: of photos, by the same.
        key: turns an image id into that key.
    """
    names = {c["id"]: (c["name"], i, True) for i, c in enumerate(content["categories"])}
    images = {key(image["id"]): image for image in content["images"]}
    truth: dict[Any, list[Mapping[str, Any]]] = {image: [] for image in results}
    for annotation in content["annotations"]:
        if key(annotation["image_id"]) in truth:
            truth[key(annotation["image_id"])].append(annotation)
    worst = WorstImages()
    for image, found in results.items():
        if not file_names.get(image):  # a `process` of a subclass does not note them
            continue
        height, width = images[image].get("height"), images[image].get("width")
        true: list[dict[str, Any]] = [
            {**x, "segmentation": compress(x["segmentation"], height, width)} for x in truth[image]
        ]
        sure = [x for x in found if x["score"] >= _SURE]
        objects = [x for x in true if not x.get("iscrowd", 0)]
        score = instance_f1(sure, true)
        worst.offer(score, file_names[image], partial(_both, sure, objects, names))
    return worst


def _both(
    found: Iterable[Mapping[str, Any]],
    true: Iterable[Mapping[str, Any]],
    names: Mapping[Any, tuple[str, int, bool]],
) -> tuple[list[Entry], ...]:
    return instance_entries(found, names), instance_entries(true, names)


def instance_f1(
    found: Sequence[Mapping[str, Any]], true: Sequence[Mapping[str, Any]]
) -> float | None:
    """Return 2 TP / (2 TP + FP + FN) of an image, at an IoU of 0.5 and within classes.

    Args:
        found, true: with category_id and segmentation (compressed RLE). What lies in a crowd
            region of its class, which ``true`` may have, is no error.

    Returns:
        a number in 0..1; None where nothing is true and nothing was found.
    """
    crowd = [int(bool(x.get("iscrowd", 0))) for x in true]
    objects = len(true) - sum(crowd)
    masks = [[x["segmentation"] for x in part] for part in (found, true)]
    iou = np.zeros((len(found), len(true)))
    if found and true:
        iou = np.asarray(mask_util.iou(*masks, crowd))
    same = np.array([[f["category_id"] == t["category_id"] for t in true] for f in found])
    iou = np.where(same.reshape(iou.shape), iou, 0.0)
    hits, ignored, taken = 0, 0, np.array(crowd, bool)
    for row in iou[sorted(range(len(found)), key=lambda i: -found[i].get("score", 1.0))]:
        free = np.where(taken, 0.0, row)
        if free.size and free.max() >= _HIT:
            taken[free.argmax()] = True
            hits += 1
        elif row.size and row[np.array(crowd, bool)].max(initial=0.0) >= _HIT:
            ignored += 1
    total = len(found) - ignored + objects
    return 2 * hits / total if total else None


def precision_curves(evaluation: Any) -> dict[str, list[float | None]]:
    """Return the precision of an accumulated COCO evaluation at its recalls.

    Returns:
        "recall", and precisions in 0..1, as means over the classes that there are, at the IoUs
        "0.50" and "0.75", and as the "mean" over all IoUs; None where there is no class.
    """
    params, precision = evaluation.params, evaluation.eval["precision"][:, :, :, 0, -1]
    precision = np.where(precision < 0, np.nan, precision)
    present = ~np.isnan(precision).all(axis=(0, 1))
    curves: dict[str, list[float | None]] = {"recall": _rounded(params.recThrs)}
    for percent in (50, 75):
        (at,) = np.flatnonzero(np.round(100 * params.iouThrs) == percent)
        curves[f"{percent / 100:.2f}"] = _mean(precision[at][:, present])
    curves["mean"] = _mean(precision[:, :, present].mean(axis=0))
    return curves


def _mean(values: np.ndarray) -> list[float | None]:
    return _rounded(values.mean(axis=1)) if values.size else [None] * len(values)


def _rounded(values: Any) -> list[float | None]:
    return [round(float(value), 4) for value in values]
