"""The manifest of a job: its images and videos, in shards that stay as they are."""

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from ...errors import UserError
from ...formats.containers.tar_files import TarMember
from ...formats.json_files import require_count, require_text, to_json_line

IMAGE, VIDEO, UNREADABLE = "image", "video", "unreadable"

_START = b'{"first":'  # of each line of a manifest


@dataclass(frozen=True)
class Item:
    """An input.

    Attributes:
        index: its place in the job, from 0 on; the image_id or video_id is one more.
        name: of its result files: a relative path without suffix.
        path: of the file, folder of frames, or archive, as it was given.
        kind: IMAGE, VIDEO, or UNREADABLE, which `error` explains.
        member, offset, size: of the file in an archive.
        error: why it cannot be read.
    """

    index: int
    name: str
    path: str
    kind: str = IMAGE
    member: str = ""
    offset: int = 0
    size: int = 0
    error: str = ""

    @property
    def id(self) -> int:
        """What results call it."""
        return self.index + 1

    @property
    def file_name(self) -> str:
        """What results call its file."""
        return f"{self.path}/{self.member}" if self.member else self.path

    def named(self, name: str) -> Self:
        """Return the same with another name."""
        return replace(self, name=name)

    def source(self, root: Path) -> str | TarMember:
        """Return what images are read from; relative paths start from `root`."""
        path = str(root / self.path)
        return TarMember(path, self.member, self.offset, self.size) if self.member else path

    def check(self) -> None:
        """Raise a UserError where a value is of another type, as in a damaged manifest."""
        for key in ("name", "path", "kind", "member", "error"):
            require_text(getattr(self, key), key)
        for key in ("offset", "size"):
            require_count(getattr(self, key), key)
        if self.kind not in (IMAGE, VIDEO, UNREADABLE):
            raise UserError(f"kind: expected image, video or unreadable, got {self.kind!r:.80}")

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest has of it: what differs from the defaults."""
        defaults = {"index": self.index, "kind": IMAGE, "member": "", "error": ""}
        defaults |= {"offset": 0, "size": 0} if not self.member else {}
        return {k: v for k, v in vars(self).items() if k not in defaults or v != defaults[k]}


def damaged_job(path: Path, problem: str) -> UserError:
    """Return the error that a file of a job is not as it was written."""
    return UserError(
        f"{path} is damaged ({problem}); choose another --output, or give --overwrite to start anew"
    )


def write_manifest(path: Path, items: Iterable[Item], shard_size: int) -> tuple[int, int, int]:
    """Write shards as lines of json; a video is a shard of its own.

    Returns:
        numbers of items and of shards, and how many of the items are videos.
    """
    count = shards = videos = 0
    with open(path, "w", encoding="utf-8") as file:
        for shard in _shards(items, shard_size):
            line = {"first": count, "items": [item.to_json() for item in shard]}
            file.write(to_json_line(line) + "\n")
            count, shards = count + len(shard), shards + 1
            videos += shard[0].kind == VIDEO
    return count, shards, videos


def _shards(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    shard: list[Item] = []
    for item in items:
        if shard and (item.kind == VIDEO or len(shard) == size):
            yield shard
            shard = []
        shard.append(item)
        if item.kind == VIDEO:
            yield shard
            shard = []
    if shard:
        yield shard


class Manifest:
    """The shards of a job, read one by one; memory holds where they stand in the file.

    Args:
        path: of the manifest.
        count: of the items in it.
    """

    def __init__(self, path: Path, count: int):
        self._path = path
        self._places, self._firsts, place = array("q"), array("q"), 0
        with open(path, "rb") as file:
            for line in file:
                first = line.removeprefix(_START).partition(b",")[0]
                self._places.append(place)
                self._firsts.append(int(first) if first.isdigit() and len(first) < 19 else -1)
                place += len(line)
        self._firsts.append(count)
        ordered = all(a < b for a, b in pairwise(self._firsts))
        if not ordered or self._firsts[0] != 0:
            raise damaged_job(path, f"expected shards that have {count} inputs together")

    def __len__(self) -> int:
        return len(self._places)

    def count(self, shard: int) -> int:
        """Return the number of items in a shard."""
        return self._firsts[shard + 1] - self._firsts[shard]

    def __getitem__(self, shard: int) -> list[Item]:
        """Return the items of a shard, counted from 0."""
        with open(self._path, "rb") as file:
            file.seek(self._places[shard])
            line = file.readline()
        try:
            entries = json.loads(line)["items"]
            items = [Item(i, **entry) for i, entry in enumerate(entries, self._firsts[shard])]
            for item in items:
                item.check()
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise damaged_job(self._path, f"shard {shard}: {error!r:.200}") from error
        if len(items) != self.count(shard):
            raise damaged_job(
                self._path, f"shard {shard} has {len(items)} inputs, not as many as it had"
            )
        return items
