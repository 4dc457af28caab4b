"""The semantic ground truth of a dataset, from label maps or from panoptic segments."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...annotations.readers.label_maps import require_known
from ...annotations.readers.panoptic import read_segment_map
from ...annotations.readers.records import call
from ...annotations.registered import (
    is_made_by,
    label_meaning,
    panoptic_records,
    read_registered_panoptic,
)
from ...errors import UserError
from ...formats.label_maps import look_up, read_labels, values_in
from ..common import DatasetIds


class SemanticTruth:
    """Read the label maps of a dataset one at a time.

    Args:
        dataset_name: its records have sem_seg_file_name, or pan_seg_file_name and segments_info
            with contiguous categories, whose segments then make the label map. The metadata have
            stuff_classes and ignore_label; sem_seg_labels, where the labels in the files are not 0,
            1, ...; and stuff_dataset_id_to_contiguous_id, where the classes have ids of their own.
    """

    def __init__(self, dataset_name: str):
        metadata = MetadataCatalog.get(dataset_name)
        if dataset_name not in DatasetCatalog or not metadata.get("stuff_classes"):
            raise UserError(f"no semantic segmentation dataset is called {dataset_name}")
        self.dataset_name = dataset_name
        self.class_names: list[str] = metadata.stuff_classes
        self._meaning = label_meaning(dataset_name)
        labels = self._meaning.labels
        self._table = self._meaning.indices
        ids = metadata.get("stuff_dataset_id_to_contiguous_id")
        if ids is None and labels is not None:
            ids = self._table
        self.dataset_ids = DatasetIds(ids, dataset_name, "stuff")
        self._records = {r["file_name"]: _needed(r) for r in _records(dataset_name)}
        self.file_names = set(self._records)

    def read(self, file_name: str) -> np.ndarray:
        """Read the label map of an image.

        Returns:
            (H, W) int64 in [0, K), -1 = ignore.

        Raises:
            FileNotFoundError: the label map is missing.
            UserError: no image of the dataset; the label map is damaged, has several channels or
                a label beyond the classes.
        """
        record = self._records.get(file_name)
        if record is None:
            raise UserError(f"{file_name} is not an image of {self.dataset_name}")
        if "sem_seg_file_name" not in record:
            segments = record["segments_info"]
            ids = read_segment_map(record["pan_seg_file_name"], segments)
            classes = {segment["id"]: segment["category_id"] for segment in segments}
            return look_up(ids, classes, -1, np.int64)
        path = record["sem_seg_file_name"]
        labels = read_labels(path)
        require_known(values_in(labels), self._meaning, path)
        return look_up(labels, self._table, -1, np.int64)


def _needed(record: Mapping[str, Any]) -> dict[str, Any]:
    if "sem_seg_file_name" in record:
        return {"sem_seg_file_name": record["sem_seg_file_name"]}
    missing = [key for key in ("pan_seg_file_name", "segments_info") if key not in record]
    if missing:
        raise UserError(
            f"{record['file_name']} has no semantic ground truth: expected sem_seg_file_name, or "
            f"pan_seg_file_name and segments_info, got {', '.join(sorted(record))}"
        )
    return {key: record[key] for key in ("pan_seg_file_name", "segments_info")}


def _records(name: str) -> Any:
    """Return the records of a dataset, read by our reader where detectron2 registered it."""
    if not is_made_by(DatasetCatalog.data.get(name), "register_coco_panoptic"):
        return call(name, DatasetCatalog[name])
    annotations = read_registered_panoptic(name)
    records = panoptic_records(name, annotations)
    annotations.findings.raise_refused()
    return records
