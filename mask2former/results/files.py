"""Predictions as files: of images in COCO's result formats, of a video as one growing json list."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np

from ..errors import UserError
from ..formats.json_files import JsonStream, join_json, to_json_line
from ..formats.label_maps import write_panoptic_png
from ..formats.rle import encode_segments
from .arrays import as_array
from .classes import CategoryIds, class_name
from .instances import instances_to_json
from .regions import semantic_labels

_VOID = {np.uint8: 255, np.uint16: 65535}  # of label maps, by their type


class Categories:
    """Turn what a model returns into entries with the dataset's categories.

    Args:
        metadata: of the dataset: the tables `*_dataset_id_to_contiguous_id`, of a semantic dataset
            `sem_seg_labels`, and names. Classes without a table keep their numbers.
    """

    def __init__(self, metadata: Mapping[str, Any]):
        things = metadata.get("thing_dataset_id_to_contiguous_id")
        stuff = metadata.get("stuff_dataset_id_to_contiguous_id")
        labels = metadata.get("sem_seg_labels")
        if stuff is None and labels is not None:
            stuff = {label: k for k, label in enumerate(labels)}
        elif stuff is None and not metadata.get("stuff_classes"):
            stuff = things
        self._metadata = metadata
        self._tables = {False: stuff or {}, True: things or {}}
        name = metadata.get("name", "the dataset")
        self._ids = {
            False: CategoryIds(stuff, name, "stuff"),
            True: CategoryIds(things, name, "thing"),
        }

    def id(self, label: int, is_thing: bool) -> int:
        """Return the dataset's id of a contiguous class.

        Raises:
            UserError: the dataset has no such class.
        """
        return self._ids[is_thing][label]

    def named(self, label: int, is_thing: bool) -> dict[str, Any]:
        """Return a contiguous class as an entry with its id and name."""
        name = class_name(self._metadata, label, is_thing)
        return {"category_id": self.id(label, is_thing), "category": name}

    def thing_names(self) -> dict[int, str]:
        """Return the names of the dataset's ids of things."""
        names = self._metadata.get("thing_classes") or []
        table = self._tables[True] or {label: label for label in range(len(names))}
        return {i: class_name(self._metadata, label, True) for i, label in table.items()}

    def as_coco(self) -> list[dict[str, Any]]:
        """Return COCO's `categories`; a class that is in both tables is a thing."""
        categories = {
            i: {
                "id": i,
                "name": class_name(self._metadata, label, is_thing),
                "isthing": int(is_thing),
            }
            for is_thing, table in self._tables.items()
            for i, label in table.items()
        }
        return [categories[i] for i in sorted(categories)]

    def label_table(self, count: int) -> np.ndarray:
        """Return the dataset's ids of `count` classes and, last, where -1 finds it, the value of
        label maps for none: (count + 1,), uint8 with 255 for none, or uint16 with 65535.

        Raises:
            UserError: an id is too large for 16 bits.
        """
        ids = [self.id(label, False) for label in range(count)]
        highest = max(ids, default=0)
        if highest >= _VOID[np.uint16]:
            raise UserError(f"label maps hold ids of classes below 65535, got {highest}")
        dtype = np.uint8 if highest < _VOID[np.uint8] else np.uint16
        return np.array([*ids, _VOID[dtype]], dtype)

    def instances(self, instances: Any) -> list[dict[str, Any]]:
        """Return an entry for each of N instances; see `instances_to_json`."""
        return instances_to_json(instances, self._ids[True])

    def panoptic(
        self, segment_map: np.ndarray, segments: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return COCO's `segments_info` of a map of ids (H, W)."""
        last = max((segment["id"] for segment in segments), default=0)
        areas = np.bincount(segment_map.ravel(), minlength=last + 1).tolist()
        infos = []
        for segment in segments:
            category = self.id(segment["category_id"], bool(segment["isthing"]))
            area = areas[segment["id"]]
            infos.append({"id": segment["id"], "category_id": category, "area": area})
        return infos

    def semantic(self, scores: Any, threshold: float) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield each class that is in a semantic result, and its entry; see `semantic_labels`."""
        labels = as_array(semantic_labels(scores, threshold))
        present = [label for label in np.unique(labels).tolist() if label >= 0]
        for label, rle in zip(present, encode_segments(labels, present)):
            yield label, {"category_id": self.id(label, False), "segmentation": rle}


class PredictionFiles:
    """Collect the results of images and write them in COCO's forms.

    Into its folder go, as far as the model gives them: `instances.json`, a list of COCO results;
    `panoptic.json` with PNGs in `panoptic/`; and `semantic.json`, a list of one mask for each
    class of each image. Images are identified by `image_id` and `file_name`. Category ids are the
    dataset's own.

    Args:
        folder: made where it is missing, with its first file.
        metadata: maps the model's classes to the dataset's ids and names.
        score_threshold: instances of a lower score are left out, in 0..1.
        label_threshold: least fraction of a pixel's best class in a semantic result, in 0..1.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        metadata: Mapping[str, Any],
        score_threshold: float = 0.0,
        label_threshold: float = 0.0,
    ):
        self.folder = Path(folder)
        self.score_threshold = score_threshold
        self.label_threshold = label_threshold
        self._categories = Categories(metadata)
        self._image_ids: set[Any] = set()
        self._lists: dict[str, IO[str]] = {}  # entries as lines of json, not in memory

    def add(self, file_name: str, prediction: Mapping[str, Any], image_id: Any = None) -> None:
        """Take in the result of one image; panoptic PNGs are written at once.

        Args:
            file_name: identifies the image.
            prediction: what the model returns; see `MaskFormer.forward`.
            image_id: the dataset's own, which scoring needs; by default images count from 1.

        Raises:
            UserError: an image_id that came before, or a class that the dataset lacks.
        """
        image = {"image_id": self._new_id(image_id), "file_name": file_name}
        if "panoptic_seg" in prediction:
            self._add_panoptic(image, *prediction["panoptic_seg"])
        if "instances" in prediction:
            instances = prediction["instances"]
            kept = instances[instances.scores >= self.score_threshold]
            self._append("instances", [image | e for e in self._categories.instances(kept)])
        if "sem_seg" in prediction:
            entries = self._categories.semantic(prediction["sem_seg"], self.label_threshold)
            self._append("semantic", [image | entry for _, entry in entries])

    def write(self) -> list[Path]:
        """Write the json files and return their paths."""
        kinds = sorted(self._lists.keys() - {"images"})
        paths = {kind: self.folder / f"{kind}.json" for kind in kinds}
        for kind, path in paths.items():
            if kind == "panoptic":
                lists = {"images": self._lines("images"), "annotations": self._lines(kind)}
                categories = map(to_json_line, self._categories.as_coco())
                join_json(path, lists | {"categories": categories})
            else:
                join_json(path, self._lines(kind))
        return list(paths.values())

    def _append(self, name: str, entries: Iterable[Mapping[str, Any]]) -> None:
        if name not in self._lists:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = TemporaryFile("w+", encoding="utf-8", dir=self.folder)  # noqa: SIM115 (kept)
            self._lists[name] = file
        self._lists[name].writelines(f"{to_json_line(entry)}\n" for entry in entries)

    def _lines(self, name: str) -> Iterator[str]:
        self._lists[name].seek(0)
        return (line.rstrip("\n") for line in self._lists[name])

    def _new_id(self, image_id: Any) -> Any:
        image_id = len(self._image_ids) + 1 if image_id is None else image_id
        if image_id in self._image_ids:
            raise UserError(f"image_id {image_id} came before: each image needs its own")
        self._image_ids.add(image_id)
        return image_id

    def _add_panoptic(
        self, image: Mapping[str, Any], ids: Any, segments: Sequence[Mapping[str, Any]]
    ) -> None:
        segment_map = as_array(ids)
        height, width = segment_map.shape
        image_id, file_name = image["image_id"], image["file_name"]
        size = {"height": height, "width": width}
        self._append("images", [{"id": image_id, "file_name": file_name, **size}])
        png = f"{len(self._image_ids):06d}.png"
        write_panoptic_png(self.folder / "panoptic" / png, segment_map)
        infos = self._categories.panoptic(segment_map, segments)
        entry = {"image_id": image_id, "file_name": png, "segments_info": infos}
        self._append("panoptic", [entry])


class TrackFile:
    """Write a list with an entry for each object of each frame, in the order of the frames.

    An entry has "frame" (from 0 on), "seconds", "track_id" (for instances and panoptic segments),
    "category_id" (the dataset's own), "category", "score" (of instances), "isthing" (of panoptic
    segments) and "segmentation" (RLE). The file appears when it is closed.

    Args:
        path: json file; its folder is made where missing.
        metadata: maps the model's classes to the dataset's ids and names.
        label_threshold: least fraction of a pixel's best class in a semantic result, in 0..1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        metadata: Mapping[str, Any],
        label_threshold: float = 0.0,
    ):
        self._path = Path(path)
        self._stream = JsonStream(self._path)
        self._categories = Categories(metadata)
        self._label_threshold = label_threshold
        self._frame = 0

    def add(self, seconds: float, prediction: Mapping[str, Any]) -> None:
        """Take in the next frame.

        Args:
            seconds: when it is shown.
            prediction: what `VideoPredictor` yields; a semantic result is written where there is no
                other.
        """
        head = {"frame": self._frame, "seconds": round(seconds, 6)}
        for entry in self._entries(prediction):
            self._stream.write(head | entry)
        self._frame += 1

    def close(self, keep: bool = True) -> None:
        """Write the file, or nothing."""
        self._stream.close(merge=False)
        if not keep:
            self._path.unlink()

    def _entries(self, prediction: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if "panoptic_seg" in prediction:
            ids, segments = prediction["panoptic_seg"]
            masks = encode_segments(as_array(ids), [segment["id"] for segment in segments])
            for segment, mask in zip(segments, masks):
                is_thing = bool(segment["isthing"])
                category = self._categories.named(segment["category_id"], is_thing)
                head = {"track_id": segment["id"], **category, "isthing": is_thing}
                yield head | {"segmentation": mask}
        elif "instances" in prediction:
            instances = prediction["instances"]
            entries = self._categories.instances(instances)
            columns = (instances.track_ids.tolist(), instances.pred_classes.tolist(), entries)
            for track_id, label, entry in zip(*columns):
                yield {"track_id": track_id} | self._categories.named(label, True) | entry
        elif "sem_seg" in prediction:
            areas = self._categories.semantic(prediction["sem_seg"], self._label_threshold)
            for label, entry in areas:
                yield self._categories.named(label, False) | entry
