"""Predictions as files in COCO's result formats, for images that need no ground truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Instances

from .ids import DatasetIds
from .json_files import write_json
from .panoptic_files import write_panoptic_png
from .rle import encode_masks, encode_segments


class PredictionFiles:
    """Collects the results of images and writes them in COCO's forms.

    Into its folder go, as far as the model gives them: `instances.json`, a list of COCO results;
    `panoptic.json` with PNGs in `panoptic/`; and `semantic.json`, a list of one mask for each
    class of each image. Images are told by `file_name`. Category ids are the data set's own.

    Args:
        folder: made where it is missing.
        metadata: maps the model's classes to the data set's ids.
    """

    def __init__(self, folder: str | os.PathLike[str], metadata: Metadata):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._metadata = metadata
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
    ) -> None:
        """Take in the result of one image; panoptic PNGs are written at once.

        Args:
            file_name: tells the image.
            prediction: what the model returns; see `MaskFormer.forward`.
            labels: (H, W), the semantic result as contiguous classes, 255 for none.
            threshold: instances of a lower score are left out, in 0..1.
        """
        image = {"id": len(self._images) + 1, "file_name": file_name}
        if "panoptic_seg" in prediction:
            self._add_panoptic(image, *prediction["panoptic_seg"])
        if "instances" in prediction:
            self._add_instances(image, prediction["instances"], threshold)
        if labels is not None:
            self._add_semantic(image, labels)
        self._images.append(image)

    def write(self) -> list[Path]:
        """Write the json files and return their paths."""
        contents = {
            "instances": self._instances,
            "panoptic": {
                "images": self._images,
                "annotations": self._panoptic,
                "categories": self._categories(),
            },
            "semantic": self._semantic,
        }
        paths = []
        for kind in sorted(self._kinds):
            paths.append(self.folder / f"{kind}.json")
            write_json(paths[-1], contents[kind])
        return paths

    def _ids(self, kind: str) -> DatasetIds:
        table = self._metadata.get(f"{kind}_dataset_id_to_contiguous_id")
        return DatasetIds(table, self._metadata.get("name", "the data set"), kind)

    def _add_instances(
        self, image: Mapping[str, Any], instances: Instances, threshold: float
    ) -> None:
        self._kinds.add("instances")
        kept = instances[instances.scores >= threshold].to("cpu")
        ids = self._ids("thing")
        for box, score, label, rle in zip(
            kept.pred_boxes.tensor.tolist(),
            kept.scores.tolist(),
            kept.pred_classes.tolist(),
            encode_masks(kept.pred_masks),
        ):
            x0, y0, x1, y1 = box
            self._instances.append(
                {
                    "image_id": image["id"],
                    "file_name": image["file_name"],
                    "category_id": ids[label],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": score,
                    "segmentation": rle,
                }
            )

    def _add_panoptic(
        self, image: Mapping[str, Any], ids: Any, segments: Sequence[Mapping[str, Any]]
    ) -> None:
        self._kinds.add("panoptic")
        segment_map = ids.cpu().numpy()
        png = f"{image['id']:06d}.png"
        write_panoptic_png(self.folder / "panoptic" / png, segment_map)
        areas = np.bincount(segment_map.ravel())
        infos = []
        for segment in segments:
            kind = "thing" if segment["isthing"] else "stuff"
            category = self._ids(kind)[segment["category_id"]]
            number = segment["id"]
            area = int(areas[number]) if number < len(areas) else 0
            infos.append({"id": number, "category_id": category, "area": area})
        self._panoptic.append(
            {
                "image_id": image["id"],
                "file_name": png,
                "image_file_name": image["file_name"],
                "segments_info": infos,
            }
        )

    def _add_semantic(self, image: Mapping[str, Any], labels: np.ndarray) -> None:
        self._kinds.add("semantic")
        ids = self._ids("stuff")
        present = [int(c) for c in np.unique(labels) if c != 255]
        for label, rle in zip(present, encode_segments(labels, present)):
            self._semantic.append(
                {
                    "image_id": image["id"],
                    "file_name": image["file_name"],
                    "category_id": ids[label],
                    "segmentation": rle,
                }
            )

    def _categories(self) -> list[dict[str, Any]]:
        stuff = self._metadata.get("stuff_dataset_id_to_contiguous_id") or {}
        things = self._metadata.get("thing_dataset_id_to_contiguous_id") or {}
        names = self._metadata.get("stuff_classes") or self._metadata.get("thing_classes") or []
        table = stuff or things
        return [
            {"id": i, "name": names[c] if c < len(names) else str(i), "isthing": int(i in things)}
            for i, c in sorted(table.items())
        ]
