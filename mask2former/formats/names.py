"""Names of files: their natural order, their length, and what tells maps from photos."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from .atomic import PathLike

logger = logging.getLogger(__name__)

MAX_NAME = 255  # bytes of a file's name, in the file systems that people have


def natural_key(path: PathLike) -> tuple[list[str | int], str]:
    """Return a key to sort by that counts numbers: frame 2 comes before frame 10."""
    parts = re.split(r"(\d+)", os.fspath(path))
    numbered: list[str | int] = [int(p) if i % 2 else p for i, p in enumerate(parts)]
    return numbered, os.fspath(path)


def short_name(stem: str, room: int) -> str:
    """Return a stem that leaves ``room`` bytes of a file's name: where it is cut, it has a hash."""
    encoded = os.fsencode(stem)
    if len(encoded) <= MAX_NAME - room:
        return stem
    mark = f"~{hashlib.sha256(encoded).hexdigest()[:8]}"
    cut = encoded[: MAX_NAME - room - len(mark)]
    return cut.decode(errors="ignore") + mark


def files_below(folder: PathLike) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, hidden ones apart, in their natural order.

    Links to folders are followed, each folder once; those that cannot be read go to the log.
    """
    seen = set()
    for root, folders, files in os.walk(folder, onerror=_warn, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else _visible(folders)
        if real not in seen:
            seen.add(real)
            yield from (Path(root, name) for name in _visible(files))


def map_suffix(photos: Collection[str], maps: Collection[str]) -> tuple[str, int]:
    """Propose what the names of label maps have behind the names of their photos.

    Args:
        photos, maps: names of files, without the suffix of their format.

    Returns:
        such as ("_mask", 120), which gives 120 photos a map; ("", 0) where nothing would.
    """
    known, found = set(photos), Counter[str]()
    for name in maps:
        # Of each length, whether the start is a photo; a photo "a_1" may start with another, "a".
        found.update(name[i:] for i in range(1, len(name)) if name[:i] in known)
    return max(found.items(), key=lambda item: (item[1], -len(item[0])), default=("", 0))


def _warn(error: OSError) -> None:
    logger.warning("A folder is left out: %s", error)


def _visible(names: list[str]) -> list[str]:
    return sorted((name for name in names if name[0] != "."), key=natural_key)
