"""Label maps: which photo each belongs to, and what the numbers in them say."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UserError
from ...formats.label_maps import count_values, read_labels
from ...formats.names import files_below, map_suffix
from ...formats.pillow import image_suffixes
from ..findings import Findings

_JPEG = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}  # beside maps, mostly previews of them
_SAMPLED = 50  # maps that are looked into before a training starts
_NAMED = 5  # files in a message


@dataclass(frozen=True)
class LabelMeaning:
    """What the numbers in label maps mean.

    Attributes:
        classes: names of the K classes.
        ignore_label: the number of pixels without a class, or several of them.
        labels: the numbers of the classes, all others being ignored; None for 0 to K - 1.
    """

    classes: Sequence[str]
    ignore_label: int | Sequence[int] = 255
    labels: Sequence[int] | None = None

    @property
    def indices(self) -> dict[int, int]:
        """Return the contiguous class of each number that has one."""
        numbers = self.labels if self.labels is not None else range(len(self.classes))
        indices = {number: index for index, number in enumerate(numbers)}
        return {k: v for k, v in indices.items() if k not in self.ignored}

    @property
    def ignored(self) -> set[int]:
        """Return the numbers of pixels without a class."""
        return set(np.ravel(self.ignore_label).tolist())


def require_known(labels: Iterable[int], meaning: LabelMeaning, path: str) -> None:
    """Raise a UserError where a label map has a number that means nothing.

    Args:
        labels: the numbers that occur in it.
        path: of the map.
    """
    findings = Findings(path)
    check_labels(labels, meaning, path, findings)
    unknown = findings.of("refused")
    if unknown:
        raise UserError(str(unknown[0]))


def check_labels(
    labels: Iterable[int], meaning: LabelMeaning, path: str, findings: Findings
) -> None:
    """Add what is irregular in the numbers of one label map.

    Args:
        labels: the numbers that occur in it.
        path: of the map.
        findings: to which those of the map are added.
    """
    found = set(labels) - meaning.ignored
    unknown = sorted(found - meaning.indices.keys())
    if unknown:
        more = f" and {len(unknown) - 10} more" * (len(unknown) > 10)
        facts = {"labels": ", ".join(map(str, unknown[:10])) + more}
        if meaning.labels is not None:
            findings.add("label-ignored", file=path, **facts)
        else:
            last, ignored = len(meaning.classes) - 1, meaning.ignore_label
            findings.add("label-unknown", file=path, last=last, ignore_label=ignored, **facts)
    if not found & meaning.indices.keys():
        findings.add("map-without-class", file=path)


def judge_labels(
    seen: Mapping[int, int], maps: int, meaning: LabelMeaning, findings: Findings
) -> None:
    """Add what only all label maps of a dataset together show.

    Args:
        seen: the numbers that occur, and in how many maps.
        maps: how many there are.
        findings: to which those of the dataset are added.
    """
    if not maps or seen.keys() - meaning.ignored - meaning.indices.keys():
        return
    known = [index for label, index in meaning.indices.items() if label in seen]
    if not known:
        findings.add("no-class-in-maps", count=maps)
    elif _is_black_and_white(seen, meaning):
        first, second = _two_names(meaning)
        code = "white-ignored-one-class" if len(meaning.classes) > 1 else "white-ignored"
        findings.add(code, name=meaning.classes[known[0]], first=first, second=second)


def look_at_maps(paths: Sequence[str], meaning: LabelMeaning, file: str) -> Findings:
    """Look into some label maps before a training starts.

    At most 50 are read, evenly spread; where these have no class, or nothing but 0 and an ignored
    255, the others are read too, until one has more.

    Args:
        file: what the findings about all of them are in.
    """
    findings = Findings(file)
    seen: Counter[int] = Counter()
    step = -(-len(paths) // _SAMPLED) or 1
    for path in paths[::step]:
        labels = count_values(read_labels(path))
        check_labels(labels, meaning, path, findings)
        seen.update(labels.keys())
    others = (path for index, path in enumerate(paths) if index % step)
    for path in others:
        if meaning.indices.keys() & seen.keys() and not _is_black_and_white(seen, meaning):
            break
        seen.update(count_values(read_labels(path)).keys())
    judge_labels(seen, len(paths), meaning, findings)
    return findings


def _is_black_and_white(seen: Mapping[int, int], meaning: LabelMeaning) -> bool:
    return set(seen) == {0, 255} and 255 in meaning.ignored and 0 in meaning.indices


def _two_names(meaning: LabelMeaning) -> tuple[str, str]:
    """Return the names that black and white of a mask probably have."""
    if len(meaning.classes) > 1:
        return meaning.classes[0], meaning.classes[1]
    return "background", meaning.classes[0]


def pair_label_maps(image_root: str, sem_seg_root: str) -> tuple[list[tuple[str, str]], Findings]:
    """Find the photos and the label maps of two folders, which match by name.

    Subfolders are searched too, those behind links among them.

    Returns:
        paths of a photo and of its map, in the order of their names; and what was found.

    Raises:
        FileNotFoundError: no file of one folder has its match in the other.
    """
    findings = Findings(sem_seg_root)
    photos = _by_stem(image_root, findings)
    maps = _by_stem(sem_seg_root, findings, _JPEG)
    matched = sorted(photos.keys() & maps.keys())
    lone_photos, lone_maps = sorted(photos.keys() - maps), sorted(maps.keys() - photos)
    hint = _propose(lone_photos, lone_maps) if lone_photos and lone_maps else ""
    if not matched and not findings.of("refused"):
        raise FileNotFoundError(
            f"none of the {len(photos)} images in {image_root} has a label map of its name among "
            f"the {len(maps)} in {sem_seg_root}{hint}"
        )
    for code, lone, among in (
        ("photos-without-map", lone_photos, photos),
        ("maps-without-photo", lone_maps, maps),
    ):
        if lone:
            names = ", ".join(among[stem] for stem in lone[:_NAMED])
            more = f" and {len(lone) - _NAMED} more" * (len(lone) > _NAMED)
            findings.add(code, count=len(lone), total=len(among), names=names + more, hint=hint)
    return [(photos[stem], maps[stem]) for stem in matched], findings


def _by_stem(root: str, findings: Findings, second: Collection[str] = ()) -> dict[str, str]:
    """Return images by their path below ``root`` without suffix.

    Args:
        second: suffixes of files that count only where no other has the name.
    """
    files: dict[str, str] = {}
    for path in sorted(files_below(root), key=lambda path: path.suffix.lower() in second):
        suffix, stem = path.suffix.lower(), os.fspath(path.relative_to(root).with_suffix(""))
        if suffix not in image_suffixes() or (suffix in second and stem in files):
            continue
        if stem in files:
            findings.add("files-of-one-name", first=files[stem], second=path)
        files.setdefault(stem, os.fspath(path))
    return files


def _propose(photos: Collection[str], maps: Collection[str]) -> str:
    """Say which ending of the names of maps, or of photos, keeps them from matching."""
    for long, short, names in (("label maps", "an image", maps), ("images", "a label map", photos)):
        others = photos if names is maps else maps
        suffix, count = map_suffix(others, names)
        if count:
            return (
                f"; {count} {long} have the name of {short} with {suffix!r} behind it: rename them"
            )
    return ""
