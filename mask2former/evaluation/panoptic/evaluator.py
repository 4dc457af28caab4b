"""Panoptic quality of a model while it runs, and of files in COCO's format."""

import itertools
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ...annotations.parts.fields import id_key
from ...annotations.readers.panoptic import read_panoptic, read_segment_map
from ...annotations.registered import read_registered_panoptic
from ...errors import UserError
from ...formats.atomic import PathLike
from ...formats.json_files import read_json, require_keys, require_list, require_text, write_json
from ...formats.label_maps import read_panoptic_png, write_panoptic_png
from ...formats.segmentations import error_prefix
from ...threads import available_cpus
from ..common import DatasetIds, gather, required
from ..results import quality_table
from .quality import PanopticQuality

logger = logging.getLogger(__name__)

_IMAGES_PER_TASK = 32
_KEYS = {"All": "", "Things": "_th", "Stuff": "_st"}


class PanopticEvaluator(DatasetEvaluator):
    """PQ, SQ and RQ of all, thing and stuff classes, under detectron2's names and in percent.

    Each image is compared as it comes: what stays in memory is one row of counts for each category
    and the segments' json. Gathers over processes, which must all call ``evaluate``.

    Args:
        dataset_name: a dataset whose metadata have panoptic_json, panoptic_root,
            thing_dataset_id_to_contiguous_id and stuff_dataset_id_to_contiguous_id.
        output_dir: where the PNGs (folder ``panoptic``) and ``predictions.json`` go, in COCO's
            format; None writes nothing. All processes must reach it.
    """

    takes_semantic_labels = True

    def __init__(self, dataset_name: str, output_dir: str | None = None):
        self._name = dataset_name
        self._metadata = MetadataCatalog.get(dataset_name)
        self._output_dir = Path(output_dir) if output_dir else None
        things = self._metadata.thing_dataset_id_to_contiguous_id
        stuff = self._metadata.stuff_dataset_id_to_contiguous_id
        self._thing_ids = DatasetIds(things, dataset_name, "thing")
        self._stuff_ids = DatasetIds(stuff, dataset_name, "stuff")
        truth = read_registered_panoptic(dataset_name, need_photos=False)
        truth.findings.raise_refused(but=["all-crowd"])
        self._gt_json = truth.content
        self._gt = {
            id_key(annotation["image_id"]): annotation
            for annotation in self._gt_json.get("annotations", ())
        }

    def reset(self) -> None:
        self._quality = PanopticQuality(self._gt_json["categories"])
        self._annotations: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        """Count a batch of B images.

        Args:
            inputs: B dicts with ``file_name`` and ``image_id``.
            outputs: B dicts with ``panoptic_seg``: a map (H, W) of segment ids in the size of the
                ground truth, 0 = void, and the list of ``{"id", "category_id", "isthing"}`` with
                contiguous categories (dataset categories where there is no ``isthing``); or a map
                of ``category x label_divisor + instance`` with -1 = void, and None.

        Raises:
            UserError: no panoptic output, an image or category that the ground truth lacks,
                another size.
        """
        for image, output in zip(inputs, outputs, strict=True):
            segment_map, segments = required(output, "panoptic_seg", "PANOPTIC_ON")
            segment_map = segment_map.cpu().numpy()
            if segments is None:
                segment_map, segments = self._split_labels(segment_map)
            segments = [self._in_dataset_ids(segment) for segment in segments]
            with error_prefix(image["file_name"]):
                self._add(image, segment_map, segments)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Sum over the processes; the results are on the main one, the others get {}.

        Raises:
            UserError: some image of the ground truth was not processed, or twice.
        """
        gathered = gather((self._quality, self._annotations))
        if not gathered:
            return {}
        annotations = list(itertools.chain.from_iterable(part for _, part in gathered))
        if self._output_dir:
            value = {**self._gt_json, "annotations": annotations}
            write_json(self._output_dir / "predictions.json", value)
        if not self._gt:
            logger.info("%s has no annotations: results are written, but not scored", self._name)
            return {}
        self._check_complete(annotations)
        parts = (quality for quality, _ in gathered)
        summary = _total(self._gt_json["categories"], parts).summary()
        logger.info("Panoptic quality on %s:\n%s", self._name, quality_table(summary))
        results = {
            name.upper() + suffix: 100 * summary[group][name]
            for group, suffix in _KEYS.items()
            for name in ("pq", "sq", "rq")
        }
        return {"panoptic_seg": results}

    def _add(
        self,
        image: Mapping[str, Any],
        segment_map: np.ndarray,
        segments: list[dict[str, Any]],
    ) -> None:
        gt = self._gt.get(id_key(image["image_id"]))
        if gt is None and self._gt:
            raise UserError(f"image id {image['image_id']} is not in the ground truth")
        if gt is not None:
            path = Path(self._metadata.panoptic_root) / gt["file_name"]
            gt_map = read_segment_map(path, gt["segments_info"])
            self._quality.add_image(gt_map, gt["segments_info"], segment_map, segments)
        png = _png_name(gt["file_name"] if gt else Path(image["file_name"]).name)
        if self._output_dir:
            write_panoptic_png(self._output_dir / "panoptic" / png, segment_map)
        image_id = gt["image_id"] if gt else image["image_id"]
        self._annotations.append(
            {"image_id": image_id, "file_name": png, "segments_info": segments}
        )

    def _in_dataset_ids(self, segment: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of a segment, as others may read the model's output after us."""
        category = int(segment["category_id"])
        if segment.get("isthing") is not None:
            category = (self._thing_ids if segment["isthing"] else self._stuff_ids)[category]
        return {"id": int(segment["id"]), "category_id": category}

    def _split_labels(self, labels: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Undo ``category x label_divisor + instance``; ids become label + 1, so 0 is void."""
        divisor = self._metadata.label_divisor
        segments = [
            {
                "id": int(label) + 1,
                "category_id": int(label) // divisor,
                "isthing": int(label) // divisor in self._thing_ids,
            }
            for label in np.unique(labels)
            if label != -1
        ]
        return labels + 1, segments

    def _check_complete(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        seen = [id_key(annotation["image_id"]) for annotation in annotations]
        missing = [key for key in self._gt if key not in set(seen)]
        if missing or len(seen) != len(self._gt):
            raise UserError(
                f"{self._name}: expected each of its {len(self._gt)} images once, got {len(seen)} "
                f"predictions; {len(missing)} images have none, {missing[:10]} among them"
            )


def _png_name(file_name: str) -> str:
    """Return the name of a PNG below the output folder, whatever folders the name climbs to."""
    parts = [part for part in PurePosixPath(file_name).parts if part not in ("..", "/")]
    return str(PurePosixPath(*parts).with_suffix(".png"))


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
    return _total(gt_json["categories"], parts).summary()


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


def _total(
    categories: Sequence[Mapping[str, Any]], parts: Iterable[PanopticQuality]
) -> PanopticQuality:
    total = PanopticQuality(categories)
    for part in parts:
        total += part
    return total
