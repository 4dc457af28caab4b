"""Panoptic quality of a model while it runs, and of files in COCO's format."""

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ...annotations.parts.fields import id_key
from ...annotations.readers.panoptic import read_segment_map
from ...annotations.registered import read_registered_panoptic
from ...errors import UserError
from ...formats.json_files import write_json
from ...formats.label_maps import write_panoptic_png
from ...formats.segmentations import error_prefix
from ..common import DatasetIds, gather, required
from ..details import WorstImages, class_colours, segment_entries, write_details
from ..results import quality_table
from .quality import PanopticQuality, total_quality

logger = logging.getLogger(__name__)

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
        self._worst = WorstImages()

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
        gathered = gather((self._quality, self._annotations, self._worst))
        if not gathered:
            return {}
        annotations = list(itertools.chain.from_iterable(part for _, part, _ in gathered))
        if self._output_dir:
            value = {**self._gt_json, "annotations": annotations}
            write_json(self._output_dir / "predictions.json", value)
        if not self._gt:
            logger.info("%s has no annotations: results are written, but not scored", self._name)
            return {}
        self._check_complete(annotations)
        parts = (quality for quality, *_ in gathered)
        summary = total_quality(self._gt_json["categories"], parts).summary()
        logger.info("Panoptic quality on %s:\n%s", self._name, quality_table(summary))
        self._write_details(summary["per_class"], [images for *_, images in gathered])
        results = {
            name.upper() + suffix: 100 * summary[group][name]
            for group, suffix in _KEYS.items()
            for name in ("pq", "sq", "rq")
        }
        names = {c["id"]: c.get("name", c["id"]) for c in self._gt_json["categories"]}
        for category, quality in summary["per_class"].items():
            occurs = quality["tp"] + quality["fp"] + quality["fn"]
            results[f"PQ-{names[category]}"] = 100 * quality["pq"] if occurs else float("nan")
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
            true = gt["segments_info"]
            score = self._quality.add_image(gt_map, true, segment_map, segments)
            pairs = ((segment_map, segments), (gt_map, true))
            self._worst.offer(score, image["file_name"], partial(self._entries, pairs))
        png = _png_name(gt["file_name"] if gt else Path(image["file_name"]).name)
        if self._output_dir:
            write_panoptic_png(self._output_dir / "panoptic" / png, segment_map)
        image_id = gt["image_id"] if gt else image["image_id"]
        self._annotations.append(
            {"image_id": image_id, "file_name": png, "segments_info": segments}
        )

    def _entries(self, pairs: Iterable[tuple[np.ndarray, Any]]) -> tuple[list[dict], ...]:
        """Return the entries of maps and their segments that `WorstImages` keeps."""
        known = {
            c["id"]: (c["name"], i, bool(c["isthing"]))
            for i, c in enumerate(self._gt_json["categories"])
        }
        return tuple(segment_entries(*pair, known) for pair in pairs)

    def _write_details(
        self, per_class: Mapping[int, Mapping[str, float]], parts: Iterable[WorstImages]
    ) -> None:
        worst = WorstImages()
        for part in parts:
            worst += part
        keys = ("pq", "sq", "rq")
        scores = {
            c["name"]: {key.upper(): round(100 * per_class[c["id"]][key], 4) for key in keys}
            for c in self._gt_json["categories"]
            if any(per_class[c["id"]][key] for key in ("tp", "fp", "fn"))
        }
        colours = class_colours(self._metadata)
        facts = {"per_class": scores, "worst": worst.worst_first(), "colours": colours}
        write_details(self._output_dir, "panoptic_seg", **facts)

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
