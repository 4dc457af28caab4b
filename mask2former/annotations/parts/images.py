"""The images or videos that an annotation file lists: ids, each once, sizes and files."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PureWindowsPath
from typing import Any

from ...formats.atomic import PathLike
from ...formats.images import image_size
from ..findings import Findings
from .documents import Document
from .fields import id_key, pixels

Image = dict[str, Any]

_NOT_PLAIN = re.compile(r"\\|://|[\0\ud800-\udfff]")


def read_images(
    document: Document,
    image_root: PathLike | None = None,
    *,
    find_files: bool = False,
    need_sizes: bool = True,
    exif_rotation: bool | None = None,
    key: str = "images",
    name: str = "image",
) -> dict[Any, Image]:
    """Read the list of images, or of videos.

    Sizes that are missing or no numbers of pixels are read from the files, where ``image_root``
    is given; else they are left away. So are those of a photo whose EXIF tag swaps its sides, where
    nobody says whether photos are turned: annotations and photo fit as they are read.

    Args:
        document: findings are added to its own.
        image_root: folder of the images.
        find_files: look for files that are not where their names say, and need names.
        need_sizes: False leaves sizes as they are.
        exif_rotation: INPUT.EXIF_ROTATION, where it is known: whether photos are turned.
        key, name: of the list, and of one of its entries for messages.

    Returns:
        entries by ``id_key`` of their id, in the order of the ids. Each has its id, file_name (a
        path below ``image_root``, or an absolute one), height and width in pixels, and what else
        the file says.
    """
    findings = document.findings
    images: dict[Any, Image] = {}
    for entry in document.entries(key, name):
        identity = id_key(entry.get("id"))
        if identity is None:
            findings.add("image-id-missing", f"{name} {_name(entry)}")
        elif identity not in images:
            images[identity] = entry
        elif _name(images[identity]) == _name(entry):
            findings.add("image-twice", f"{name} {entry['id']} ({_name(entry)})")
        else:
            first, second = _name(images[identity]), _name(entry)
            findings.add("image-id-shared", f"{name} {entry['id']}", first=first, second=second)
    if not images and not findings.of("refused"):
        findings.add("no-images")
    paths = None if image_root is None else FilePaths(os.fspath(image_root), document)
    read_names = _read_frame_names if key == "videos" else _read_names
    read_names(images, findings, needed=find_files)
    if paths and find_files:
        paths.replace(images.values(), name)
    if need_sizes:
        _read_sizes(images.values(), paths, findings, name, exif_rotation)
    return {k: images[k] for k in sorted(images, key=lambda k: (isinstance(k, str), k))}


def _name(entry: Mapping[str, Any]) -> Any:
    """Return the name of the file, or the names of the frames."""
    return entry.get("file_name", entry.get("file_names"))


def _read_names(images: dict[Any, Image], findings: Findings, needed: bool) -> None:
    seen: dict[str, Any] = {}
    for entry in images.values():
        name, item = entry.get("file_name"), f"image {entry['id']}"
        if not isinstance(name, str) or not name:
            if needed:
                findings.add("image-name-missing", item)
        elif seen.setdefault(name, entry["id"]) != entry["id"]:
            findings.add("file-twice", item, name=name, first=seen[name], second=entry["id"])


def _read_frame_names(videos: dict[Any, Image], findings: Findings, needed: bool) -> None:
    for entry in videos.values():
        names = entry.get("file_names")
        usable = isinstance(names, list) and all(isinstance(n, str) and n for n in names)
        if names and usable:
            continue
        if needed or names:
            findings.add("frame-names-missing", f"video {entry['id']}", value=names)
        entry.pop("file_names", None)


def _read_sizes(
    images: Iterable[Image],
    paths: "FilePaths | None",
    findings: Findings,
    kind: str,
    exif_rotation: bool | None,
) -> None:
    for entry in images:
        given = entry.get("height"), entry.get("width")
        height, width = map(pixels, given)
        if type(given[0]) is type(given[1]) is int and height and width:
            continue
        if height is None or width is None:
            entry.pop("height", None)
            entry.pop("width", None)
            item = f"{kind} {entry['id']}"
            findings.add("image-size", item, height=given[0], width=given[1])
            name = next(iter(entry.get("file_names", ())), entry.get("file_name"))
            if paths is None or not isinstance(name, str):
                continue
            path = os.path.join(paths.root, paths.find(name, item))
            if not os.path.isfile(path):
                continue
            ways = (True, False) if exif_rotation is None else (exif_rotation,)
            sizes = {image_size(path, upright=upright) for upright in ways}
            if len(sizes) > 1:
                continue
            height, width = sizes.pop()
        entry["height"], entry["width"] = height, width


class FilePaths:
    """Find the files that an annotation file names, whatever folder or system it is from.

    Tried in this order: the name as it stands below ``root``; with "/" for each backslash; relative
    to the annotation file; and, of an absolute path of another machine, an address in the web or a
    path that climbs out of its folder, its ends below ``root``.
    Plain names are taken as they stand where the first of them is there, without a look at each.

    Args:
        root: folder of the images.
        document: of which the findings and the folder are used.
    """

    def __init__(self, root: str, document: Document):
        self.root = root
        self._document = document
        self._all_there: bool | None = None
        self._missing: set[str] = set()

    def replace(self, images: Iterable[Image], kind: str) -> None:
        """Put the names under which the files are found in the place of file_name or file_names."""
        for entry in images:
            name, item = entry.get("file_name"), f"{kind} {entry['id']}"
            if isinstance(name, str) and name:
                entry["file_name"] = self.find(name, item)
            if "file_names" in entry:
                entry["file_names"] = [self.find(frame, item) for frame in entry["file_names"]]

    def find(self, name: str, item: str) -> str:
        """Return the name, below the root or absolute, under which a file is there.

        A file that is not there is a finding where its name has to be looked for; else it is left
        to who reads it.
        """
        is_plain = not (_NOT_PLAIN.search(name) or os.path.isabs(name) or name.startswith("."))
        if name in self._missing or (is_plain and self._all_there):
            return name
        tried = []
        for candidate in self._candidates(name):
            path = os.path.join(self.root, candidate)
            if path in tried:
                continue
            tried.append(path)
            if os.path.isfile(path):
                if is_plain and candidate == name:
                    self._all_there = self._all_there is None or self._all_there
                if candidate != name:
                    self._document.findings.add("path-changed", item, name=name, path=path)
                return candidate
        if is_plain and self._all_there is None and not os.path.isdir(self.root):
            return name  # there are no images here at all, which others may do without
        self._all_there = False
        self._missing.add(name)
        self._document.findings.add(
            "image-file-missing", item, name=name, tried=", ".join(tried[:4])
        )
        return name

    def _candidates(self, name: str) -> Iterator[str]:
        yield name
        posix = name.replace("\\", "/")
        yield os.path.normpath(posix)
        here = self._document.folder / posix
        yield os.path.abspath(here)
        if posix.startswith(("/", "../")) or PureWindowsPath(name).drive or "://" in name:
            # Label Studio gives addresses whose query names the file, Labelbox some with a key.
            path = posix.partition("?")[0] if "://" in name else posix
            parts = [p for p in path.split("/") if p not in ("", ".", "..") and p[-1] != ":"]
            yield from ("/".join(parts[i:]) for i in range(len(parts)))
