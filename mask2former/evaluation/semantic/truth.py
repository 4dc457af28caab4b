"""The semantic ground truth of a dataset, from label maps or from panoptic segments."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...formats.label_maps import look_up, read_labels, read_panoptic_png
from ..common import DatasetIds

_UNKNOWN = -2


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
            raise ValueError(f"no semantic segmentation dataset is called {dataset_name}")
        self.dataset_name = dataset_name
        self.class_names: list[str] = metadata.stuff_classes
        self._ignore_label = metadata.ignore_label
        labels = metadata.get("sem_seg_labels")
        # Of a selection of labels the others are ignored.
        self._default = _UNKNOWN if labels is None else -1
        classes = {label: k for k, label in enumerate(labels or range(len(self.class_names)))}
        self._table = classes | dict.fromkeys(np.ravel(self._ignore_label).tolist(), -1)
        ids = metadata.get("stuff_dataset_id_to_contiguous_id")
        if ids is None and labels is not None:
            ids = classes
        self.dataset_ids = DatasetIds(ids, dataset_name, "stuff")
        self._records = {r["file_name"]: _needed(r) for r in DatasetCatalog.get(dataset_name)}
        self.file_names = set(self._records)

    def read(self, file_name: str) -> np.ndarray:
        """Read the label map of an image.

        Returns:
            (H, W) int64 in [0, K), -1 = ignore.

        Raises:
            FileNotFoundError: the label map is missing.
            ValueError: no image of the dataset; the label map is damaged, has several channels or
                a label beyond the classes.
        """
        record = self._records.get(file_name)
        if record is None:
            raise ValueError(f"{file_name} is not an image of {self.dataset_name}")
        if "sem_seg_file_name" not in record:
            ids = read_panoptic_png(record["pan_seg_file_name"])
            return look_up(ids, record["classes"], -1, np.int64)
        path = record["sem_seg_file_name"]
        labels = read_labels(path)
        classes = look_up(labels, self._table, self._default, np.int64)
        unknown = labels[classes == _UNKNOWN]
        if unknown.size:
            raise ValueError(
                f"{path}: expected labels from 0 to {len(self.class_names) - 1} or the ignore "
                f"label {self._ignore_label}, got {unknown.max()}"
            )
        return classes


def _needed(record: Mapping[str, Any]) -> dict[str, Any]:
    if "sem_seg_file_name" in record:
        return {"sem_seg_file_name": record["sem_seg_file_name"]}
    missing = [key for key in ("pan_seg_file_name", "segments_info") if key not in record]
    if missing:
        raise ValueError(
            f"{record['file_name']} has no semantic ground truth: expected sem_seg_file_name, or "
            f"pan_seg_file_name and segments_info, got {', '.join(sorted(record))}"
        )
    classes = {segment["id"]: segment["category_id"] for segment in record["segments_info"]}
    return {"pan_seg_file_name": record["pan_seg_file_name"], "classes": classes}
