"""Panoptic quality of files in COCO's format: a json and a folder of PNG maps."""

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from ...formats.atomic import PathLike
from ...formats.json_files import image_key, read_json
from ...formats.label_maps import read_panoptic_png
from .quality import PanopticQuality

_IMAGES_PER_TASK = 32


def pq_compute(
    gt_json_file: PathLike,
    pred_json_file: PathLike,
    gt_folder: PathLike | None = None,
    pred_folder: PathLike | None = None,
    num_workers: int | None = None,
) -> dict[str, Any]:
    """Compute the panoptic quality of predictions in COCO's panoptic format.

    The rule is that of the paper (Kirillov et al., CVPR 2019, section 4) in COCO's reading, void
    and crowd regions included; `PanopticQuality` has the details.

    Args:
        gt_json_file: json with ``categories`` and ``annotations``.
        pred_json_file: json with ``annotations``.
        gt_folder, pred_folder: folders of the PNGs; by default the path of the json without
            ``.json``.
        num_workers: processes; by default as many as there are cores, or fewer where the images
            would not keep them busy.

    Returns:
        ``{"All" | "Things" | "Stuff": {"pq", "sq", "rq", "n"},
        "per_class": {category id: {"pq", "sq", "rq", "tp", "fp", "fn"}}}``; qualities are
        fractions in [0, 1], NaN where no category occurs.

    Raises:
        FileNotFoundError: a json or PNG is missing.
        ValueError: prediction and ground truth are about other images, a PNG disagrees with its
            json or with the other's size, a category does not exist; says where.
    """
    gt_json, pred_json = read_json(gt_json_file), read_json(pred_json_file)
    gt_folder = Path(gt_folder or os.path.splitext(gt_json_file)[0])
    pred_folder = Path(pred_folder or os.path.splitext(pred_json_file)[0])
    for key in ("categories", "annotations"):
        if not isinstance(gt_json, dict) or key not in gt_json:
            raise ValueError(f"{gt_json_file}: expected COCO panoptic json with '{key}'")
    if not isinstance(pred_json, dict) or "annotations" not in pred_json:
        raise ValueError(f"{pred_json_file}: expected COCO panoptic json with 'annotations'")
    pairs = _pair_by_image(gt_json["annotations"], pred_json["annotations"], str(pred_json_file))

    total = PanopticQuality(gt_json["categories"])
    tasks = [pairs[i : i + _IMAGES_PER_TASK] for i in range(0, len(pairs), _IMAGES_PER_TASK)]
    common = (gt_json["categories"], gt_folder, pred_folder)
    workers = min(num_workers or _available_cores(), len(tasks))
    if workers <= 1:
        for task in tasks:
            total += _quality_of_files(task, *common)
        return total.summary()
    with ProcessPoolExecutor(workers, mp_context=_process_context()) as pool:
        for future in [pool.submit(_quality_of_files, task, *common) for task in tasks]:
            total += future.result()
    return total.summary()


def _pair_by_image(
    gt: Sequence[Mapping[str, Any]], pred: Sequence[Mapping[str, Any]], pred_name: str
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    by_image = {image_key(annotation["image_id"]): annotation for annotation in pred}
    if len(by_image) != len(pred):
        raise ValueError(f"{pred_name}: some image has more than one prediction")
    wanted = {image_key(annotation["image_id"]): annotation for annotation in gt}
    missing = [key for key in wanted if key not in by_image]
    extra = [key for key in by_image if key not in wanted]
    if missing or extra:
        raise ValueError(
            f"{pred_name}: expected a prediction for each image of the ground truth and for no "
            f"other; missing: {_some(missing)}; not in the ground truth: {_some(extra)}"
        )
    return [(annotation, by_image[key]) for key, annotation in wanted.items()]


def _some(ids: Sequence[Any], limit: int = 10) -> str:
    shown = ", ".join(map(str, ids[:limit])) or "none"
    return shown if len(ids) <= limit else f"{shown} and {len(ids) - limit} more"


def _quality_of_files(
    pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    categories: Sequence[Mapping[str, Any]],
    gt_folder: Path,
    pred_folder: Path,
) -> PanopticQuality:
    quality = PanopticQuality(categories)
    for gt, pred in pairs:
        gt_map = read_panoptic_png(gt_folder / gt["file_name"])
        pred_map = read_panoptic_png(pred_folder / pred["file_name"])
        try:
            quality.add_image(gt_map, gt["segments_info"], pred_map, pred["segments_info"])
        except ValueError as error:
            raise ValueError(f"image {gt['image_id']} ({pred['file_name']}): {error}") from error
    return quality


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _process_context() -> multiprocessing.context.BaseContext:
    # Forked workers start at once and need no `if __name__ == "__main__"` in the caller's script.
    forks = "fork" in multiprocessing.get_all_start_methods() and os.name == "posix"
    return multiprocessing.get_context("fork" if forks else "spawn")
