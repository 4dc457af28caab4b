"""Objects of videos as tubes: one mask a frame, from annotation files and from results."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...annotations.parts.documents import Annotations
from ...annotations.parts.fields import id_key
from ...annotations.readers.videos import read_videos
from ...errors import UserError
from ...formats.json_files import read_json, require_id, require_keys, require_list, require_number
from ...formats.rle import run_lengths
from ...formats.segmentations import compress, error_prefix

Json = str | os.PathLike[str] | dict[str, Any] | list[Any]
Truth = str | os.PathLike[str] | dict[str, Any] | Annotations


@dataclass
class Tube:
    """One object of a video.

    Attributes:
        entry: the json that it is from.
        video: the video's json.
        runs: T arrays of run lengths, None where the object is not to be seen.
    """

    entry: Mapping[str, Any]
    video: Mapping[str, Any]
    runs: list[np.ndarray | None]

    def areas(self) -> list[float]:
        """Return areas in pixels in the frames that show the object; those in the file go first."""
        given = self.entry.get("areas")
        if given is None:
            given = [float(runs[1::2].sum()) if runs is not None else None for runs in self.runs]
        return [area for area in given if area]


def read_tubes(
    gt_json: Truth, results_json: Json
) -> tuple[dict[str, Any], Iterator[Tube], Iterator[Tube]]:
    """Return the ground truth's json, its objects, and the results; objects are read one by one.

    Args:
        gt_json, results_json: as ``evaluate_ytvis`` takes them.

    Raises:
        FileNotFoundError, UserError: as ``evaluate_ytvis``, those about an object when it is read.
    """
    truth = gt_json if isinstance(gt_json, Annotations) else read_videos(gt_json)
    truth.findings.raise_refused(but=["all-crowd"])
    gt, results = truth.content, _entries(results_json)
    require_keys(gt, ("videos", "categories", "annotations"))
    tubes = _tubes(gt, gt["annotations"], "ground truth: annotation", has_ids=True)
    return gt, tubes, _tubes(gt, results, "results: entry", "score")


def _entries(results: Json) -> Any:
    entries = read_json(results) if isinstance(results, str | os.PathLike) else results
    if not isinstance(entries, list):
        raise UserError(f"results: expected a list of entries, got {type(entries).__name__}")
    return entries


def num_frames(video: Mapping[str, Any]) -> int:
    """Return T, by the list of files where there is one."""
    return len(video["file_names"]) if "file_names" in video else video["length"]


def frame_size(video: Mapping[str, Any]) -> tuple[int, int]:
    """Return (H, W) of a video's frames, in pixels.

    Raises:
        UserError: the video does not say.
    """
    if "height" not in video:
        raise UserError(f"video {video['id']} has no height and width, nor frames with a size")
    return video["height"], video["width"]


def _tubes(
    gt: Mapping[str, Any], entries: Sequence[Any], kind: str, *keys: str, has_ids: bool = False
) -> Iterator[Tube]:
    videos = {id_key(video["id"]): video for video in gt["videos"]}
    categories = {category["id"] for category in gt["categories"]}
    for index, entry in enumerate(entries):
        name = entry.get("id", index) if has_ids and isinstance(entry, Mapping) else index
        with error_prefix(f"{kind} {name}"):
            require_keys(entry, ("video_id", "category_id", "segmentations", *keys))
            for key in keys:
                require_number(entry[key], key)
            tube = _tube(entry, videos, categories)
        yield tube


def _tube(
    entry: Mapping[str, Any], videos: Mapping[Any, Mapping[str, Any]], categories: set[int]
) -> Tube:
    video = videos.get(id_key(entry["video_id"]))
    if video is None:
        raise UserError(f"video id {entry['video_id']!r:.80} is not in the ground truth")
    require_id(entry["category_id"], "category_id")
    if entry["category_id"] not in categories:
        raise UserError(f"category id {entry['category_id']} is not in the ground truth")
    require_list(entry["segmentations"], "segmentations")
    for key in ("segmentations", "areas"):
        if entry.get(key) is None:
            continue
        require_list(entry[key], key)
        count = len(entry[key])
        if count != num_frames(video):
            raise UserError(
                f"{key}: expected one for each of the {num_frames(video)} frames of video "
                f"{video['id']}, got {count}"
            )
    for area in entry.get("areas") or ():
        if area is not None:
            require_number(area, "areas")
    size = frame_size(video)
    runs = [_runs(mask, size, t) if mask else None for t, mask in enumerate(entry["segmentations"])]
    return Tube(entry, video, runs)


def _runs(segmentation: Any, size: tuple[int, int], frame: int) -> np.ndarray:
    with error_prefix(f"frame {frame}"):
        is_rle = isinstance(segmentation, Mapping)
        return run_lengths(segmentation if is_rle else compress(segmentation, *size), *size)
