"""Instance segmentation: AP of a model's boxes and masks."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ...annotations.parts.fields import id_key
from ...annotations.readers.instances import Annotations, read_instances
from ...annotations.readers.panoptic import read_panoptic, read_segment_map
from ...annotations.readers.records import call, records_as_coco
from ...annotations.registered import read_registered_instances
from ...formats.json_files import write_json_list
from ...formats.rle import area, bounding_box, encode_segments
from ...overrides import replaceable
from ...results.instances import instances_to_json
from ..common import (
    DatasetIds,
    check_instances,
    gather,
    refuse_coco_overrides,
    required,
)
from ..details import worst_instances, write_details
from ..results import results_table
from .coco_ap import coco_average_precision

logger = logging.getLogger(__name__)


class InstanceSegEvaluator(DatasetEvaluator):
    """AP and AR of boxes and masks, in percent, under detectron2's names.

    The numbers are those of detectron2's ``COCOEvaluator`` with ``use_fast_impl=False``. Beyond it,
    the contiguous ids of thing classes may have gaps (ADE20K, Mapillary Vistas), masks may be bool
    or float, boxes are made from masks where a model gives none, and a panoptic dataset without
    instance json gets its ground truth from its segments. Masks are kept as RLE. Gathers over
    processes, which must all call ``evaluate``.

    Args:
        dataset_name: a dataset with json_file or panoptic_json in its metadata, or in detectron2's
            standard format; thing_dataset_id_to_contiguous_id maps the classes.
        tasks: any of "bbox", "segm" and "boundary"; by default "bbox", and "segm" where there are
            masks.
        distributed: False scores what this process saw alone.
        output_dir: where ``coco_instances_results.json`` goes; None writes nothing.
        fast: use faster-coco-eval; None uses it where it is installed.
        max_dets_per_image: the largest number of results of an image that count; COCO's is 100.
        exif_rotation: whether the results are of photos that are turned as their EXIF tag says, for
            ground truth without sizes.

    Raises:
        FileNotFoundError, AnnotationError: the ground truth cannot be used; see
            ``annotations.POLICY``.
    """

    takes_semantic_labels = True

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        fast: bool | None = None,
        max_dets_per_image: int = 100,
        exif_rotation: bool = True,
    ):
        refuse_coco_overrides(self)
        self._name = dataset_name
        self._tasks = tasks
        self._distributed = distributed
        self._output_dir = Path(output_dir) if output_dir else None
        self._fast = fast
        self._max_detections = max_dets_per_image
        need_masks = tasks is None or set(tasks) != {"bbox"}
        self._truth = _ground_truth(dataset_name, need_masks, exif_rotation)
        self._dataset_ids = DatasetIds.of_things(dataset_name, self._truth.categories)

    def reset(self) -> None:
        self._results: dict[Any, list[dict[str, Any]]] = {}  # by image, each of which counts once
        self._photos: dict[Any, str] = {}

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        """Keep the results of a batch of B images as RLE; of an image that comes again, the last.

        Args:
            inputs: B dicts with ``image_id``.
            outputs: B dicts with ``instances``: detectron2 Instances of N objects with scores,
                pred_classes (contiguous), pred_masks (N, H, W) bool or float, pred_boxes (pixels);
                one of the last two may be missing.

        Raises:
            UserError: no instance output, a class that the dataset lacks, or scores or boxes that
                are no finite numbers.
        """
        for image, output in zip(inputs, outputs, strict=True):
            instances = required(output, "instances", "INSTANCE_ON").to("cpu")
            check_instances(instances, f"image {image['image_id']}")
            results = instances_to_json(instances, self._dataset_ids)
            self._results[id_key(image["image_id"])] = [
                {"image_id": image["image_id"]} | result for result in results
            ]
            self._photos[id_key(image["image_id"])] = str(image.get("file_name", ""))

    @replaceable
    def evaluate(self) -> dict[str, dict[str, float]]:
        """Score; the results are on the main process, the others get {}.

        Returns:
            ``{task: {"AP", "AP50", ..., "AP-<class>"}}``, and {} where the ground truth has no
            annotations (as in the test sets of challenges).
        """
        parts = gather((self._results, self._photos), self._distributed)
        if not parts:
            return {}
        by_image = {key: results for part, _ in parts for key, results in part.items()}
        results = list(itertools.chain.from_iterable(by_image.values()))
        if self._output_dir:
            path = self._output_dir / "coco_instances_results.json"
            write_json_list(path, results)
        if not self._truth.has_truth:
            logger.info("%s has no annotations: results are written, but not scored", self._name)
            return {}
        expected = len(self._truth.content["images"])
        if len(by_image) < expected:
            logger.warning(
                "%s has %d images, of which %d were processed: all objects of the others count as "
                "missed", self._name, expected, len(by_image),
            )  # fmt: skip
        tasks = self._tasks
        if tasks is None:
            has_masks = all("segmentation" in result for result in results)
            tasks = ("bbox", "segm") if has_masks else ("bbox",)
        curves: dict[str, dict[str, Any]] = {task: {} for task in tasks}
        scores = {
            task: coco_average_precision(
                self._truth,
                results,
                task,
                fast=self._fast,
                max_detections=self._max_detections,
                curves=curves[task],
            )
            for task in tasks
        }
        logger.info("Instances on %s:\n%s", self._name, results_table(scores))
        photos = {key: name for _, part in parts for key, name in part.items()}
        self._write_details(curves, by_image, photos)
        return scores

    def _write_details(
        self, curves: Mapping[str, Any], by_image: Mapping[Any, Any], photos: Mapping[Any, str]
    ) -> None:
        if self._output_dir is None:
            return
        for task, curve in curves.items():
            facts: dict[str, Any] = {"curves": curve}
            if task == "segm":
                content = self._truth.content
                facts["worst"] = worst_instances(content, by_image, photos, id_key).worst_first()
            write_details(self._output_dir, task, **facts)


def instances_of_panoptic(panoptic_json: str, panoptic_root: str) -> dict[str, Any]:
    """Read the thing segments of a panoptic dataset as COCO instance json.

    The masks do not overlap, as segments do not; scores on them are not comparable with scores on
    instance annotations of the same images that do.

    Args:
        panoptic_json, panoptic_root: json and folder of PNGs, in COCO's panoptic format.
    """
    read = read_panoptic(
        panoptic_json, panoptic_root=panoptic_root, names_in_json=False, find_files=True
    )
    read.findings.raise_refused()
    things = {c["id"]: c for c in read.categories if c["isthing"]}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image, entry in zip(read.content["images"], read.content["annotations"]):
        path = Path(panoptic_root) / entry["file_name"]
        segment_map = read_segment_map(path, entry["segments_info"])
        images.append(image | dict(zip(("height", "width"), segment_map.shape)))
        segments = [s for s in entry["segments_info"] if s["category_id"] in things]
        masks = encode_segments(segment_map, [s["id"] for s in segments])
        annotations += [
            {
                "id": len(annotations) + i,
                "image_id": image["id"],
                "category_id": segment["category_id"],
                "iscrowd": segment["iscrowd"],
                "segmentation": mask,
                "area": float(area(mask)),
                "bbox": bounding_box(mask),
            }
            for i, (segment, mask) in enumerate(zip(segments, masks, strict=True), start=1)
        ]
    return {"images": images, "categories": list(things.values()), "annotations": annotations}


def _ground_truth(dataset_name: str, need_masks: bool, exif_rotation: bool) -> Annotations:
    metadata = MetadataCatalog.get(dataset_name)
    if metadata.get("json_file"):
        truth = read_registered_instances(
            dataset_name, need_masks=need_masks, exif_rotation=exif_rotation
        )
    elif metadata.get("panoptic_json"):
        logger.info("%s has no instance json: its thing segments stand in", dataset_name)
        content = instances_of_panoptic(metadata.panoptic_json, metadata.panoptic_root)
        truth = read_instances(content)
    else:
        records = call(dataset_name, DatasetCatalog[dataset_name])
        content = records_as_coco(dataset_name, records)
        truth = read_instances(content, "", need_masks=need_masks, exif_rotation=exif_rotation)
    truth.findings.raise_refused()
    return truth
