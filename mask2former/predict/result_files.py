"""Predictions as files in COCO's result formats, for images that need no ground truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Instances

from ..evaluation.class_names import class_name
from ..evaluation.ids import DatasetIds
from ..evaluation.instance.evaluator import instances_to_json
from ..formats.json_files import write_json
from ..formats.label_maps import write_panoptic_png
from ..formats.rle import encode_segments


class PredictionFiles:
    """Collects the results of images and writes them in COCO's forms.

    Into its folder go, as far as the model gives them: `instances.json`, a list of COCO results;
    `panoptic.json` with PNGs in `panoptic/`; and `semantic.json`, a list of one mask for each
    class of each image. Images are told by `image_id` and `file_name`. Category ids are the data
    set's own.

    Args:
        folder: made where it is missing.
        metadata: maps the model's classes to the data set's ids and names.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], metadata: Metadata):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._metadata = metadata
        things, stuff = _tables(metadata)
        name = metadata.get("name", "the data set")
        self._thing_ids = DatasetIds(things, name, "thing")
        self._stuff_ids = DatasetIds(stuff, name, "stuff")
        self._image_ids: set[Any] = set()
        self._images: list[dict[str, Any]] = []
        self._instances: list[dict[str, Any]] = []
        self._panoptic: list[dict[str, Any]] = []
        self._semantic: list[dict[str, Any]] = []
        self._kinds: set[str] = set()

    def add(
        self,
        file_name: str,
        prediction: Mapping[str, Any],
        labels: np.ndarray | None = None,
        threshold: float = 0.0,
        image_id: Any = None,
    ) -> None:
        """Take in the result of one image; panoptic PNGs are written at once.

        Args:
            file_name: tells the image.
            prediction: what the model returns; see `MaskFormer.forward`.
            labels: (H, W), the semantic result as contiguous classes, -1 for none.
            threshold: instances of a lower score are left out, in 0..1.
            image_id: the data set's own, which scoring needs; by default images count from 1.

        Raises:
            ValueError: an image_id that was there, or a class that the data set lacks.
        """
        image = {"image_id": self._new_id(image_id), "file_name": file_name}
        if "panoptic_seg" in prediction:
            self._add_panoptic(image, *prediction["panoptic_seg"])
        if "instances" in prediction:
            self._add_instances(image, prediction["instances"], threshold)
        if labels is not None:
            self._add_semantic(image, labels)

    def write(self) -> list[Path]:
        """Write the json files and return their paths."""
        contents = {
            "instances": self._instances,
            "panoptic": {
                "images": self._images,
                "annotations": self._panoptic,
                "categories": _categories(self._metadata),
            },
            "semantic": self._semantic,
        }
        paths = []
        for kind in sorted(self._kinds):
            paths.append(self.folder / f"{kind}.json")
            write_json(paths[-1], contents[kind])
        return paths

    def _new_id(self, image_id: Any) -> Any:
        image_id = len(self._image_ids) + 1 if image_id is None else image_id
        if image_id in self._image_ids:
            raise ValueError(f"image_id {image_id} came before: each image needs its own")
        self._image_ids.add(image_id)
        return image_id

    def _add_instances(
        self, image: Mapping[str, Any], instances: Instances, threshold: float
    ) -> None:
        self._kinds.add("instances")
        kept = instances[instances.scores >= threshold].to("cpu")
        results = instances_to_json(kept, self._thing_ids)
        self._instances += [{**image, **result} for result in results]

    def _add_panoptic(
        self, image: Mapping[str, Any], ids: Any, segments: Sequence[Mapping[str, Any]]
    ) -> None:
        self._kinds.add("panoptic")
        segment_map = ids.cpu().numpy()
        height, width = segment_map.shape
        self._images.append(
            {
                "id": image["image_id"],
                "file_name": image["file_name"],
                "height": height,
                "width": width,
            }
        )
        png = f"{len(self._images):06d}.png"
        write_panoptic_png(self.folder / "panoptic" / png, segment_map)
        last = max((segment["id"] for segment in segments), default=0)
        areas = np.bincount(segment_map.ravel(), minlength=last + 1).tolist()
        infos = []
        for segment in segments:
            table = self._thing_ids if segment["isthing"] else self._stuff_ids
            category, area = table[segment["category_id"]], areas[segment["id"]]
            infos.append({"id": segment["id"], "category_id": category, "area": area})
        self._panoptic.append(
            {"image_id": image["image_id"], "file_name": png, "segments_info": infos}
        )

    def _add_semantic(self, image: Mapping[str, Any], labels: np.ndarray) -> None:
        self._kinds.add("semantic")
        present = [label for label in np.unique(labels).tolist() if label >= 0]
        for label, rle in zip(present, encode_segments(labels, present)):
            entry = {"category_id": self._stuff_ids[label], "segmentation": rle}
            self._semantic.append({**image, **entry})


def _tables(metadata: Metadata) -> tuple[dict[int, int] | None, dict[int, int] | None]:
    """The data set's ids of things and of the classes of semantic results, to contiguous ones."""
    things = metadata.get("thing_dataset_id_to_contiguous_id")
    stuff = metadata.get("stuff_dataset_id_to_contiguous_id")
    labels = metadata.get("sem_seg_labels")
    if stuff is None and labels is not None:
        stuff = {label: k for k, label in enumerate(labels)}
    elif stuff is None and not metadata.get("stuff_classes"):
        stuff = things
    return things, stuff


def _categories(metadata: Metadata) -> list[dict[str, Any]]:
    """The data set's categories; a class that is in both tables is a thing."""
    things, stuff = _tables(metadata)
    categories = {}
    for table, is_thing in ((stuff or {}, False), (things or {}, True)):
        for i, label in table.items():
            name = class_name(metadata, label, is_thing)
            categories[i] = {"id": i, "name": name, "isthing": int(is_thing)}
    return [categories[i] for i in sorted(categories)]
