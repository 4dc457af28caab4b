"""Annotations and results in YouTube-VIS form, checked against the videos that they are about."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...formats.json_files import require_keys
from ...formats.rle import run_lengths
from ...formats.segmentations import compress


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


def truth_tubes(gt: Mapping[str, Any]) -> Iterator[Tube]:
    """Yield the annotations of a YouTube-VIS json.

    Raises:
        ValueError: a video or category is unknown, a list is not as long as its video, a mask does
            not fit the frames; says where.
    """
    require_keys(gt, ("videos", "categories", "annotations"))
    return _tubes(gt, gt["annotations"], (), _describe_truth)


def result_tubes(gt: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Iterator[Tube]:
    """Yield the entries of a result file; raise as ``truth_tubes`` does."""
    return _tubes(gt, results, ("score",), lambda entry, index: f"results: entry {index}")


def _describe_truth(entry: Any, index: int) -> str:
    known = isinstance(entry, Mapping) and "id" in entry
    return f"ground truth: annotation {entry['id'] if known else index}"


def num_frames(video: Mapping[str, Any]) -> int:
    """Return T, by the list of files where there is one."""
    return len(video["file_names"]) if "file_names" in video else video["length"]


def _tubes(
    gt: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    describe: Callable[[Any, int], str],
) -> Iterator[Tube]:
    videos = {video["id"]: video for video in gt["videos"]}
    categories = {category["id"] for category in gt["categories"]}
    for index, entry in enumerate(entries):
        try:
            require_keys(entry, ("video_id", "category_id", "segmentations", *keys))
            yield _tube(entry, videos, categories)
        except ValueError as error:
            raise ValueError(f"{describe(entry, index)}: {error}") from error


def _tube(
    entry: Mapping[str, Any], videos: Mapping[Any, Mapping[str, Any]], categories: set[int]
) -> Tube:
    video = videos.get(entry["video_id"])
    if video is None:
        raise ValueError(f"video id {entry['video_id']} is not in the ground truth")
    if entry["category_id"] not in categories:
        raise ValueError(f"category id {entry['category_id']} is not in the ground truth")
    for key in ("segmentations", "areas"):
        count = len(entry[key]) if entry.get(key) is not None else num_frames(video)
        if count != num_frames(video):
            raise ValueError(
                f"{key}: expected one for each of the {num_frames(video)} frames of video "
                f"{video['id']}, got {count}"
            )
    size = (video["height"], video["width"])
    runs = [_runs(mask, size, t) if mask else None for t, mask in enumerate(entry["segmentations"])]
    return Tube(entry, video, runs)


def _runs(segmentation: Any, size: tuple[int, int], frame: int) -> np.ndarray:
    try:
        is_rle = isinstance(segmentation, Mapping)
        return run_lengths(segmentation if is_rle else compress(segmentation, *size), *size)
    except ValueError as error:
        raise ValueError(f"frame {frame}: {error}") from error
