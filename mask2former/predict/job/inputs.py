"""What a job is given to the images and videos in it: files, folders, globs, lists, archives."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from ...errors import UserError
from ...formats.atomic import PathLike
from ...formats.containers.tar_files import TarMember, tar_members
from ...formats.names import files_below, natural_key, short_name
from ...formats.pillow import image_suffixes
from .items import IMAGE, UNREADABLE, VIDEO, Item

_VIDEO_SUFFIXES = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"}
_ROOM = 16  # bytes of a file's name for its suffix and a number
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def find_items(inputs: Iterable[PathLike], *, for_video: bool = False) -> Iterator[Item]:
    """Yield what the inputs name, each path once, with names that no two share.

    Folders give the images, videos and tar archives in them and below, in natural order; a list
    ``@list.txt`` has an input in each line.

    Args:
        inputs: files, folders, globs and lists.
        for_video: the model is one for video: folders of images are videos, one each.

    Raises:
        FileNotFoundError: an input names nothing.
        UserError: an archive is compressed, or a list is in itself.
    """
    seen: set[str] = set()
    names = _Names()
    for given in inputs:
        for found in _items_of(os.fspath(given), for_video):
            key = os.path.abspath(found.path)
            if found.member:  # an archive may have a name twice
                key = f"{key}/{found.offset}"
            if key not in seen:
                seen.add(key)
                yield found.named(names.unused(found.name))


def _items_of(text: str, for_video: bool, lists: tuple[str, ...] = ()) -> Iterator[Item]:
    found = 0
    for item in _expand(text, for_video, lists):
        found += 1
        yield item
    if not found:
        raise FileNotFoundError(
            f"{text}: no such file, no folder with images, videos or tar archives, and no glob "
            "that matches any. Lists are given as @list.txt."
        )


def _expand(text: str, for_video: bool, lists: tuple[str, ...]) -> Iterator[Item]:
    """Yield the items of an input, which stands in ``lists``, each in the one before."""
    if text.startswith("@"):
        path = os.path.realpath(text[1:])
        if path in lists:
            raise UserError(f"{text}: the list is in itself")
        for line in _lines(text[1:]):
            yield from _items_of(line, for_video, (*lists, path))
    elif os.path.isdir(text):
        yield from _in_folder(text, for_video)
    elif os.path.isfile(text):
        yield from _of_file(text, Path(text).name)
    else:
        for name in sorted(glob.iglob(text, recursive=True), key=natural_key):
            if os.path.isfile(name):
                yield from _of_file(name, Path(name).name)


def _lines(path: str) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in map(str.strip, file):
                if line and not line.startswith("#"):
                    yield line
    except UnicodeDecodeError as error:
        raise UserError(f"@{path}: expected a list of inputs, a line each, in UTF-8") from error


def _in_folder(folder: str, for_video: bool) -> Iterator[Item]:
    wanted = image_suffixes() | _VIDEO_SUFFIXES | {".tar"}
    last = None
    for path in files_below(folder):
        suffix = path.suffix.lower()
        if suffix not in wanted:
            continue
        if for_video and suffix in image_suffixes():
            if path.parent != last:
                last = path.parent
                name = os.path.relpath(last, os.path.dirname(os.path.abspath(folder)))
                yield Item(0, name, str(last), VIDEO)
        else:
            yield from _of_file(str(path), os.path.relpath(path, folder))


def _of_file(path: str, name: str) -> Iterator[Item]:
    suffix = Path(path).suffix.lower()
    if path.lower().endswith(_COMPRESSED):
        raise UserError(f"{path}: a compressed archive cannot be read in parts; unpack it to .tar")
    if suffix == ".tar":
        yield from _in_archive(path)
    else:
        yield Item(
            0, os.path.splitext(name)[0], path, VIDEO if suffix in _VIDEO_SUFFIXES else IMAGE
        )


def _in_archive(path: str) -> Iterator[Item]:
    """Yield the images; where the archive is damaged, an item that says so after those before."""
    stem = Path(path).stem
    try:
        for member in tar_members(path):
            if PurePosixPath(member.name).suffix.lower() in image_suffixes():
                yield _of_member(member, stem)
    except UserError as error:
        yield Item(0, stem, path, UNREADABLE, error=str(error))


def _of_member(member: TarMember, stem: str) -> Item:
    folder, _, base = member.name.rpartition("/")
    key = base.lstrip(".").partition(".")[0]  # WebDataset's: up to the first dot
    place = (member.name, member.offset, member.size)
    return Item(0, f"{stem}/{folder}/{key}", member.archive, IMAGE, *place)


class _Names:
    """Names of result files, without suffix and relative to their folder, each given out once."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}  # the last behind a name

    def unused(self, wanted: str) -> str:
        """Return a name that stays inside the folder: the one wanted, or with a number behind."""
        parts = [
            part for part in wanted.replace("\\", "/").split("/") if part not in ("", ".", "..")
        ]
        # Without dots no folder is called as the file of another name is.
        folders = [short_name(part.replace(".", "_"), _ROOM) for part in parts[:-1]]
        base = short_name((parts or ["unnamed"])[-1].lstrip(".") or "unnamed", _ROOM)
        stem = "/".join([*folders, base])
        name, number = stem, self._numbers.get(stem.lower(), 1)
        while name.lower() in self._used:
            number += 1
            name = f"{stem}_{number}"
        self._used.add(name.lower())
        self._numbers[stem.lower()] = number
        return name
