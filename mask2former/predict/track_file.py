"""The objects of a video's frames as a json file that grows with the video, not in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import Metadata

from ..evaluation.class_names import class_name
from ..evaluation.ids import DatasetIds
from ..evaluation.instance.evaluator import instances_to_json
from ..formats.json_files import JsonStream
from ..formats.rle import encode_segments

__all__ = ["TrackFile"]


class TrackFile:
    """Writes a list with an entry for each object of each frame, in the order of the frames.

    An entry has "frame" (from 0 on), "seconds", "track_id" (for instances and panoptic segments),
    "category_id" (the data set's own), "category", "score" (of instances), "isthing" (of panoptic
    segments) and "segmentation" (RLE). The file appears when it is closed.

    Args:
        path: json file; its folder is made where missing.
        metadata: maps the model's classes to the data set's ids and names.
    """

    def __init__(self, path: str | os.PathLike[str], metadata: Metadata):
        self._path = Path(path)
        self._stream = JsonStream(self._path)
        self._metadata = metadata
        things = metadata.get("thing_dataset_id_to_contiguous_id")
        stuff = metadata.get("stuff_dataset_id_to_contiguous_id") or things
        name = metadata.get("name", "the data set")
        self._ids = {True: DatasetIds(things, name, "thing"), False: DatasetIds(stuff, name, "all")}
        self._frame = 0

    def add(
        self, seconds: float, prediction: Mapping[str, Any], labels: np.ndarray | None = None
    ) -> None:
        """Take in the next frame.

        Args:
            seconds: when it is shown.
            prediction: what `VideoPredictor` yields.
            labels: (H, W), the semantic result as contiguous classes, -1 for none; written where
                there is no other result.
        """
        head = {"frame": self._frame, "seconds": round(seconds, 6)}
        for entry in self._entries(prediction, labels):
            self._stream.write(head | entry)
        self._frame += 1

    def close(self, keep: bool = True) -> None:
        """Write the file, or nothing."""
        self._stream.close(merge=False)
        if not keep:
            self._path.unlink()

    def _entries(
        self, prediction: Mapping[str, Any], labels: np.ndarray | None
    ) -> Iterator[dict[str, Any]]:
        if "panoptic_seg" in prediction:
            ids, segments = prediction["panoptic_seg"]
            masks = encode_segments(ids.cpu().numpy(), [segment["id"] for segment in segments])
            for segment, mask in zip(segments, masks):
                is_thing = bool(segment["isthing"])
                yield {
                    "track_id": segment["id"],
                    **self._category(segment["category_id"], is_thing),
                    "isthing": is_thing,
                    "segmentation": mask,
                }
        elif "instances" in prediction:
            instances = prediction["instances"].to("cpu")
            entries = instances_to_json(instances, self._ids[True])
            columns = (instances.track_ids.tolist(), instances.pred_classes.tolist(), entries)
            for track_id, label, entry in zip(*columns):
                yield {"track_id": track_id, **self._category(label, True), **entry}
        elif labels is not None:
            present = [label for label in np.unique(labels).tolist() if label >= 0]
            for label, mask in zip(present, encode_segments(labels, present)):
                yield {**self._category(label, False), "segmentation": mask}

    def _category(self, label: int, is_thing: bool) -> dict[str, Any]:
        name = class_name(self._metadata, label, is_thing)
        return {"category_id": self._ids[is_thing][label], "category": name}
