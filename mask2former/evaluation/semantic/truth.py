"""The semantic ground truth of a data set, from label maps or from panoptic segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..ids import DatasetIds
from ..panoptic.files import read_panoptic_png


class SemanticTruth:
    """Reads the label maps of a data set one at a time.

    Args:
        dataset_name: its records have sem_seg_file_name, or pan_seg_file_name and segments_info
            with contiguous categories, whose segments then make the label map. The metadata have
            stuff_classes and ignore_label; sem_seg_labels, where the labels in the files are not 0,
            1, ...; and stuff_dataset_id_to_contiguous_id, where the classes have ids of their own.
    """

    def __init__(self, dataset_name: str):
        metadata = MetadataCatalog.get(dataset_name)
        if dataset_name not in DatasetCatalog or not metadata.get("stuff_classes"):
            raise ValueError(f"no semantic segmentation data set is called {dataset_name}")
        self.dataset_name = dataset_name
        self.class_names: list[str] = metadata.stuff_classes
        self._ignore_label = metadata.ignore_label
        self._labels = metadata.get("sem_seg_labels")
        ids = metadata.get("stuff_dataset_id_to_contiguous_id")
        if ids is None and self._labels is not None:
            ids = {label: k for k, label in enumerate(self._labels)}
        self.dataset_ids = DatasetIds(ids, dataset_name, "stuff")
        self._records = {r["file_name"]: _needed(r) for r in DatasetCatalog.get(dataset_name)}

    @property
    def file_names(self) -> set[str]:
        """The images."""
        return set(self._records)

    def read(self, file_name: str) -> np.ndarray:
        """Reads the label map of an image.

        Returns:
            (H, W) int64 in [0, K), -1 = ignore.

        Raises:
            FileNotFoundError: the label map is missing.
            ValueError: no image of the data set; the label map is damaged, has several channels or
                a label beyond the classes.
        """
        record = self._records.get(file_name)
        if record is None:
            raise ValueError(f"{file_name} is not an image of {self.dataset_name}")
        if "sem_seg_file_name" not in record:
            return _labels_of_segments(record["pan_seg_file_name"], record["segments_info"])
        path = record["sem_seg_file_name"]
        labels = _read_labels(path)
        ignored = np.isin(labels, self._ignore_label)
        if self._labels is not None:
            return np.where(ignored, -1, _places(labels, self._labels))
        labels[ignored] = -1
        if labels.size and labels.max() >= len(self.class_names):
            raise ValueError(
                f"{path}: expected labels from 0 to {len(self.class_names) - 1} or the ignore "
                f"label {self._ignore_label}, got {labels.max()}"
            )
        return labels


def _needed(record: Mapping[str, Any]) -> dict[str, Any]:
    if "sem_seg_file_name" in record:
        return {"sem_seg_file_name": record["sem_seg_file_name"]}
    missing = [key for key in ("pan_seg_file_name", "segments_info") if key not in record]
    if missing:
        raise ValueError(
            f"{record['file_name']} has no semantic ground truth: expected sem_seg_file_name, or "
            f"pan_seg_file_name and segments_info, got {', '.join(sorted(record))}"
        )
    segments = [(s["id"], s["category_id"]) for s in record["segments_info"]]
    return {"pan_seg_file_name": record["pan_seg_file_name"], "segments_info": segments}


def _labels_of_segments(path: str, segments: Sequence[tuple[int, int]]) -> np.ndarray:
    places = _places(read_panoptic_png(path), [i for i, _ in segments])
    # Place -1, of pixels without a segment, takes the last entry.
    return np.array([category for _, category in segments] + [-1], dtype=np.int64)[places]


def _places(values: np.ndarray, wanted: Sequence[int]) -> np.ndarray:
    """The place of each value in ``wanted``, -1 where it is not there."""
    if not wanted:
        return np.full(values.shape, -1, dtype=np.int64)
    order = np.argsort(wanted)
    ordered = np.asarray(wanted, dtype=np.int64)[order]
    nearest = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.where(ordered[nearest] == values, order[nearest], -1)


def _read_labels(path: str) -> np.ndarray:
    with PathManager.open(path, "rb") as file:
        try:
            labels = np.asarray(Image.open(file))
        except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises on damaged files
            raise ValueError(f"{path}: expected an image of labels: {error}") from error
    if labels.ndim != 2:
        raise ValueError(f"{path}: expected one channel of labels, got shape {labels.shape}")
    return labels.astype(np.int64)
