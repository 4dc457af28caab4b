"""YouTube-VIS json: one reader for training, checking, scoring and drawing."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..findings import Findings
from ..parts.categories import read_categories
from ..parts.documents import Annotations, Document, Source, open_document
from ..parts.fields import id_key, number
from ..parts.images import Image, read_images
from ..parts.masks import MaskReader
from ..parts.objects import ObjectReader, object_name

PER_FRAME = ("segmentations", "bboxes", "areas")


def read_videos(
    source: Source,
    image_root: str | None = None,
    *,
    find_files: bool = False,
) -> Annotations:
    """Read YouTube-VIS json.

    What is irregular is converted, left out or refused as ``POLICY`` says. Objects keep their
    order; videos are in the order of their ids.

    Args:
        source: the file, or its content.
        image_root: folder of the frames, for sizes and names that the file does not give.
        find_files: look for frames that are not where their names say, and need names; else a
            length is enough.

    Returns:
        annotations with video_id, category_id, iscrowd, segmentations, with a list of polygons in
        pixels, a compressed RLE or None for each frame, and bboxes and areas where the file has
        them; videos with id, length and, where they are known, file_names, height and width. There
        are no annotations where the file has none, or null. What is refused is among the findings,
        and so is not raised here.

    Raises:
        FileNotFoundError: no such file.
        AnnotationError: it is not of this form at all.
    """
    document = open_document(source, "YouTube-VIS json", ("videos", "categories"))
    content = document.content
    if content.get("annotations", ()) is None:
        del content["annotations"]
    document.check_annotations()
    entries = document.entries("annotations", "annotation")
    annotated = Counter(id_key(entry.get("category_id")) for entry in entries)
    videos = read_images(document, image_root, find_files=find_files, key="videos", name="video")
    for video in videos.values():
        _read_length(video, document.findings)
    categories = read_categories(document, annotated)
    reader = _TrackReader(document, videos)
    kept = [entry for index, entry in enumerate(entries) if reader.read(entry, index)]
    reader.finish(len(kept))
    content |= {"videos": list(videos.values()), "categories": categories}
    if "annotations" in content:
        content["annotations"] = kept
    return Annotations(document.file, content, document.findings, annotated)


def _read_length(video: Image, findings: Findings) -> None:
    """Replace the length of a video by a number of frames, which its files have to agree with."""
    frames, item = video.get("file_names"), f"video {video['id']}"
    given = video.get("length")
    length = number(given)
    if frames is None:
        if length is None or length != int(length) or length < 1:
            findings.add("length-unusable", item, value=given)
            length = 0
    elif given is None:
        length = len(frames)
    elif length != len(frames):
        findings.add("length-contradicts", item, length=given, files=len(frames))
        length = len(frames)
    video["length"] = int(length or 0)


class _TrackReader(ObjectReader):
    """Read the objects of one file, each over all frames of its video."""

    def __init__(self, document: Document, videos: Mapping[Any, Image]):
        super().__init__(document)
        self._file = document.file
        self._videos = videos
        self.polygons = self.in_unit_square = self.without = 0

    def read(self, entry: dict[str, Any], index: int) -> bool:
        """Clean one object in place, and return whether it can be used."""
        item = object_name(entry, index)
        self.count_id(entry)
        self.read_fields(entry, item)
        key = id_key(entry.get("video_id"))
        video = self._videos.get(key)
        if key is None:
            self._findings.add("object-video-missing", item)
        elif video is None:
            self._findings.add("object-of-unlisted-video", item, video=entry["video_id"])
        if video is None:
            return False
        entry["video_id"] = video["id"]
        if not self._has_all_frames(entry, video, item):
            return False
        return self._read_frames(entry, video, item)

    def _has_all_frames(self, entry: dict[str, Any], video: Image, item: str) -> bool:
        """Return whether each list of the object has one entry for each frame."""
        sound = True
        for key in PER_FRAME:
            value, frames = entry.get(key), video["length"]
            if value is None:
                entry.pop(key, None)
            elif not isinstance(value, list) or (frames and len(value) != frames):
                found = len(value) if isinstance(value, list) else f"{value!r:.40}"
                self._findings.add(
                    "frames-differ", item, key=key, frames=frames, video=video["id"], found=found
                )
                sound = False
        return sound and video["length"] > 0

    def _read_frames(self, entry: dict[str, Any], video: Image, item: str) -> bool:
        size = (video["height"], video["width"]) if "height" in video else None
        found = Findings(self._file)
        reader = MaskReader(found)
        given = entry.get("segmentations")
        if given is None:
            self.without += 1
            self._findings.add("mask-missing", item, value=given)
            return False
        masks: list[Any] = []
        for frame, mask in enumerate(given):
            part = {"segmentation": mask}
            shown = bool(mask) and mask != [[]]
            usable = shown and reader.read(part, f"{item}, frame {frame}", size) is not None
            masks.append(part["segmentation"] if usable else None)
        self._take_over(found)
        self.polygons += reader.polygons
        self.in_unit_square += reader.in_unit_square
        if not any(mask is not None for mask in masks):
            self._findings.add("track-unusable" if found.of("left out") else "track-unseen", item)
            if found.of("left out"):
                return False
        for key in ("bboxes", "areas"):  # of frames whose mask is left out
            if key in entry:
                entry[key] = [v if m is not None else None for v, m in zip(entry[key], masks)]
        entry["segmentations"] = masks
        self._check_areas(entry, item)
        return True

    def _take_over(self, found: Findings) -> None:
        """Add what was found in the masks of the frames, of which some have none then."""
        for finding in found.of("left out"):
            problem = finding.text.rpartition("; ")[0] or finding.text
            self._findings.add("frame-unusable", finding.item, problem=problem)
        self._findings.update(found, "taken")

    def _check_areas(self, entry: dict[str, Any], item: str) -> None:
        areas = entry.get("areas", ())
        read = [None if area is None else number(area) for area in areas]
        if any(new is None for old, new in zip(areas, read) if old is not None):
            self._findings.add("area-unusable", item, value=areas)
            del entry["areas"]
        elif areas:
            entry["areas"] = read

    def finish(self, kept: int) -> None:
        """Add what only all objects together show.

        Args:
            kept: number of objects that can be used.
        """
        self.report_ids()
        if self.polygons and self.in_unit_square == self.polygons:
            self._findings.add("polygon-unit")
        if self.count and self.without == self.count and not kept:
            self._findings.add("boxes-only", count=self.count)
        else:
            self.report_crowd()
