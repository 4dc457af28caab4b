"""Panoptic quality of files in COCO's format."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ...annotations.parts.fields import id_key
from ...annotations.readers.panoptic import read_panoptic, read_segment_map
from ...errors import UserError
from ...formats.atomic import PathLike
from ...formats.json_files import read_json, require_keys, require_list, require_text
from ...formats.label_maps import read_panoptic_png
from ...formats.segmentations import error_prefix
from ...threads import available_cpus
from .quality import PanopticQuality, total_quality

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
        gt_json_file: COCO panoptic json; see `read_panoptic`.
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
        UserError: prediction and ground truth are about other images, a PNG disagrees with its
            json or with the other's size, a category does not exist; says where.
    """
    gt_folder = Path(gt_folder or os.path.splitext(gt_json_file)[0])
    pred_folder = Path(pred_folder or os.path.splitext(pred_json_file)[0])
    truth = read_panoptic(
        gt_json_file,
        panoptic_root=str(gt_folder),
        names_in_json=False,
        need_names=False,
        find_files=True,
    )
    truth.findings.raise_refused(but=["all-crowd"])
    gt_json, pred_json = truth.content, read_json(pred_json_file)
    if not isinstance(pred_json, dict) or "annotations" not in pred_json:
        raise UserError(f"{pred_json_file}: expected COCO panoptic json with 'annotations'")
    pairs = _pair_by_image(gt_json["annotations"], pred_json["annotations"], str(pred_json_file))

    tasks = [pairs[i : i + _IMAGES_PER_TASK] for i in range(0, len(pairs), _IMAGES_PER_TASK)]
    count = partial(
        _quality_of_files,
        categories=gt_json["categories"],
        gt_folder=gt_folder,
        pred_folder=pred_folder,
    )
    workers = min(num_workers or available_cpus(), len(tasks))
    parts: Iterable[PanopticQuality] = map(count, tasks)
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(count, tasks))
    return total_quality(gt_json["categories"], parts).summary()


def _pair_by_image(
    gt: Sequence[Mapping[str, Any]], pred: Sequence[Mapping[str, Any]], pred_name: str
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    require_list(pred, f"{pred_name}: annotations")
    for i, annotation in enumerate(pred):
        with error_prefix(f"{pred_name}: annotation number {i}"):
            require_keys(annotation, ("image_id", "file_name", "segments_info"))
            require_text(annotation["file_name"], "file_name")
    by_image = {id_key(annotation["image_id"]): annotation for annotation in pred}
    if len(by_image) != len(pred):
        raise UserError(f"{pred_name}: some image has more than one prediction")
    wanted = {id_key(annotation["image_id"]): annotation for annotation in gt}
    missing = [key for key in wanted if key not in by_image]
    extra = [key for key in by_image if key not in wanted]
    if missing or extra:
        raise UserError(
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
        gt_map = read_segment_map(gt_folder / gt["file_name"], gt["segments_info"])
        pred_map = read_panoptic_png(pred_folder / pred["file_name"])
        with error_prefix(f"image {gt['image_id']} ({pred['file_name']})"):
            quality.add_image(gt_map, gt["segments_info"], pred_map, pred["segments_info"])
    return quality
