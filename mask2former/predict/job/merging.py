"""From the results of shards to the files of a job, in memory that their number does not move."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...formats.containers.parquet import write_parquet
from ...formats.json_files import join_json, to_json_line
from ...results.classes import class_name
from ...results.files import Categories
from ..image import Predictor
from .encoding import lines_of
from .folder import JobFolder
from .settings import ERRORS, FILES, INSTANCES, LABELS, PANOPTIC, PARQUET, TRACKS, Settings

PARQUET_COLUMNS = {
    "image_id": "int64",
    "video_id": "int64",
    "frame": "int64",
    "track_id": "int64",
    "file_name": "string",
    "category_id": "int64",
    "category": "string",
    "score": "double",
    "bbox": "list<double>",
    "height": "int64",
    "width": "int64",
    "counts": "string",
}


def write_results(
    folder: Path, *, job: JobFolder, settings: Settings, predictor: Predictor
) -> Iterator[str]:
    """Write the files of a job, all of whose shards are done; yield their names.

    Args:
        folder: where to; it exists.
        predictor: names the classes.
    """
    entries = _Entries(job)
    videos = job.facts["videos"]
    is_there = {TRACKS: videos > 0, PARQUET: True}
    for output, name in FILES.items():
        if output not in settings.outputs:
            continue
        if not is_there.get(output, job.facts["items"] > videos):
            continue
        path = folder / name
        if output in (INSTANCES, TRACKS):
            join_json(path, entries.of(output))
        elif output == PARQUET:
            write_parquet(path, PARQUET_COLUMNS, _rows(entries, predictor))
        else:
            lists = {"images": entries.of("image" if output == PANOPTIC else LABELS)}
            if output == PANOPTIC:
                lists["annotations"] = entries.of(PANOPTIC)
            lists["categories"] = map(to_json_line, _categories(predictor, output))
            join_json(path, lists)
        yield name
    with open(folder / ERRORS, "w", encoding="utf-8") as file:
        file.writelines(f"{entry}\n" for entry in entries.of("error"))
    yield ERRORS


def count_errors(job: JobFolder) -> int:
    """Return how many inputs of a finished job could not be read."""
    with open(job.output / ERRORS, encoding="utf-8") as file:
        return sum(1 for _ in file)


class _Entries:
    """The results of all shards, in their order."""

    def __init__(self, job: JobFolder):
        self._job = job

    def of(self, kind: str) -> Iterator[str]:
        """Yield the entries of a kind as json text; see `line`."""
        for shard in range(len(self._job.manifest)):
            with open(self._job.results(shard), encoding="utf-8") as file:
                yield from lines_of(kind, file)


def _categories(predictor: Predictor, output: str) -> list[dict[str, Any]]:
    """Return COCO's categories; of label maps all classes of the model."""
    categories = Categories(predictor.metadata)
    if output == PANOPTIC:
        return categories.as_coco()
    count = predictor.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    metadata = predictor.metadata
    return [
        {"id": categories.id(k, False), "name": class_name(metadata, k, False)}
        for k in range(count)
    ]


def _rows(entries: _Entries, predictor: Predictor) -> Iterator[dict[str, Any]]:
    """Yield a row for each instance of each image and each frame."""
    names = Categories(predictor.metadata).thing_names()
    for text in entries.of(INSTANCES):
        yield _row(json.loads(text), names)
    for text in entries.of(TRACKS):
        track = json.loads(text)
        for frame, mask in enumerate(track.pop("segmentations")):
            if mask is not None:
                yield _row(track | {"frame": frame, "segmentation": mask}, names)


def _row(entry: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    height, width = entry["segmentation"]["size"]
    category = names.get(entry["category_id"], str(entry["category_id"]))
    more = {"counts": entry["segmentation"]["counts"], "height": height, "width": width}
    kept = {key: value for key, value in entry.items() if key in PARQUET_COLUMNS}
    return kept | more | {"category": category}
