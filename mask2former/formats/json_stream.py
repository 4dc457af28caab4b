"""A json list written entry by entry, by several processes, without holding it in memory."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from .json_files import write_json_list


class JsonStream:
    """Appends entries to a part file of this process; closing joins the parts of all of them.

    Args:
        path: json file to write, in a folder that all processes reach; it is made where missing.
    """

    def __init__(self, path: str | Path):
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._part = self._part_of(comm.get_rank())
        self._file = open(self._part, "w", encoding="utf-8")  # noqa: SIM115 (open until close())

    def write(self, entry: Any) -> None:
        """Appends one entry, which must be json."""
        self._file.write(json.dumps(entry))
        self._file.write("\n")

    def close(self, merge: bool = True) -> None:
        """Writes the list, whole or not at all, and deletes the parts.

        Args:
            merge: join the parts of all processes, each of which must call this; otherwise the
                list has the entries of this process alone.
        """
        self._file.close()
        if not merge:
            self._join([self._part])
            return
        comm.synchronize()
        if comm.is_main_process():
            self._join([self._part_of(rank) for rank in range(comm.get_world_size())])
        comm.synchronize()

    def _part_of(self, rank: int) -> Path:
        return self._path.with_name(f".{self._path.name}.part{rank}")

    def _join(self, parts: list[Path]) -> None:
        with ExitStack() as stack:
            files = [stack.enter_context(open(part, encoding="utf-8")) for part in parts]
            write_json_list(self._path, (line.rstrip("\n") for file in files for line in file))
        for part in parts:
            part.unlink()
