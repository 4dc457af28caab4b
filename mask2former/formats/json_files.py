"""Json files of annotations and results, whole and entry by entry."""

import json
import math
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from numbers import Real
from pathlib import Path
from typing import Any

from ..errors import UserError
from .atomic import PathLike, atomic_path
from .names import short_name
from .opening import open_path

_HUGE = 1e300  # beyond, whole numbers of json fit in no float


def read_json(path: PathLike) -> Any:
    """Read a json file.

    Args:
        path: a file, or anything that detectron2's PathManager opens.

    Raises:
        FileNotFoundError: no such file.
        UserError: it is not json, or not in UTF-8; names the file.
    """
    try:
        with open_path(path, "r", encoding="utf-8-sig") as file:
            return json.load(file)
    except UnicodeDecodeError as error:
        found = _found_at(path)
        if found:
            raise UserError(f"{path}: expected a json file{found}") from error
        raise UserError(
            f"{path}: expected a json file in UTF-8, got another encoding ({error}); save it as "
            "UTF-8, for example with: iconv -f GBK -t UTF-8 (or -f UTF-16, CP1252, ...)"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a json file{_found_at(path)}: {error}") from error


def write_json(path: PathLike, value: Any, indent: int | None = None) -> None:
    """Write json atomically and make its folder; NaN and infinities, which json lacks, are null."""
    _write_lines(path, [_to_json(value, indent)])


def write_json_list(path: PathLike, entries: Iterable[Any]) -> None:
    """Write a list as `write_json` does, a line for each entry, which are taken one by one."""
    _write_lines(path, _list_lines(map(_to_json, entries)))


def to_json_line(value: Any) -> str:
    """Return a value as json in one line; NaN and infinities, which json lacks, are null."""
    return _to_json(value)


def join_json(path: PathLike, lists: Mapping[str, Iterable[str]] | Iterable[str]) -> None:
    """Write a list as `write_json` does, or an object of lists, of entries that are json already.

    Args:
        path: its folder is made where it is missing.
        lists: the entries, each json text in one line, which are taken one by one; or such lists
            by their key.
    """
    if not isinstance(lists, Mapping):
        _write_lines(path, _list_lines(lists))
        return
    _write_lines(path, _object_lines(lists))


class JsonStream:
    """A json list written entry by entry, by several processes, without holding it in memory.

    Each process appends to a part file of its own; closing joins the parts.

    Args:
        path: json file to write, in a folder that all processes reach; it is made where missing.
    """

    def __init__(self, path: PathLike):
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        comm = _comm()
        self._part = self._part_of(comm.get_rank() if comm else 0)
        self._file = open(self._part, "w", encoding="utf-8")  # noqa: SIM115 (open until close())

    def write(self, entry: Any) -> None:
        """Append one entry, which must be json."""
        self._file.write(_to_json(entry))
        self._file.write("\n")

    def close(self, merge: bool = True) -> None:
        """Write the list atomically and delete the parts.

        Args:
            merge: join the parts of all processes, each of which must call this; otherwise the
                list has the entries of this process alone.
        """
        self._file.close()
        comm = _comm() if merge else None
        if comm is None:
            self._join([self._part])
            return
        comm.synchronize()
        if comm.is_main_process():
            self._join([self._part_of(rank) for rank in range(comm.get_world_size())])
        comm.synchronize()

    def discard(self) -> None:
        """Close the part of this process and delete it, where nothing is to come of it."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def _part_of(self, rank: int) -> Path:
        return self._path.with_name(f".{short_name(self._path.name, 20)}.part{rank}")

    def _join(self, parts: list[Path]) -> None:
        with ExitStack() as stack:
            files = [stack.enter_context(open(part, encoding="utf-8")) for part in parts]
            _write_lines(self._path, _list_lines(line.rstrip("\n") for f in files for line in f))
        for part in parts:
            part.unlink()


def _comm() -> Any:
    """Return what detectron2's processes talk through; None where it is not imported."""
    return sys.modules.get("detectron2.utils.comm")


def _found_at(path: PathLike) -> str:
    """Return what a file seems to be that is no json, by its first bytes; "" where not known."""
    with open_path(path) as file:
        head = file.read(4096)
    known = {
        b"version https://git-lfs": "a pointer of Git LFS (get the file with: git lfs pull)",
        b"\x1f\x8b": "a gzip archive; unpack it",
        b"PK": "a zip archive; unpack it",
        b"\x89PNG": "an image",
        b"\xff\xd8\xff": "an image",
        b"<!doctype html": "a page of the web, perhaps in place of a download",
        b"<html": "a page of the web, perhaps in place of a download",
        b"<": "XML; export the annotations as COCO json",
    }
    start = head.lstrip()
    if not start:
        return ", got an empty file"
    if start[1:2] == b"\0":
        return ", got UTF-16; save it as UTF-8"
    if re.match(rb"\{[^\n]*\}\s*\n\s*\{", start):
        return ", got one in each line; export it as a single one, in the form of COCO"
    start = start.lower() if start.startswith(b"<") else start
    return next((f", got {what}" for sign, what in known.items() if start.startswith(sign)), "")


def require_keys(entry: Any, keys: Collection[str]) -> None:
    """Raise a UserError where ``entry`` is no json object with these keys."""
    missing = [key for key in keys if key not in entry] if isinstance(entry, Mapping) else keys
    if missing:
        raise UserError(f"expected an object with {', '.join(keys)}; missing: {', '.join(missing)}")


def require_number(value: Any, name: str) -> None:
    """Raise a UserError where a value is no finite number; NaN, null, text and truth are none."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not abs(value) < _HUGE:
        raise UserError(f"{name}: expected a finite number, got {value!r}")


def require_count(value: Any, name: str) -> None:
    """Raise a UserError where a value is no whole number from 0 to 2^63 - 1."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise UserError(f"{name}: expected a whole number of 0 or more, got {value!r:.80}")


def require_list(value: Any, name: str) -> None:
    """Raise a UserError where a value is no list."""
    if not isinstance(value, list | tuple):
        raise UserError(f"{name}: expected a list, got {type(value).__name__}")


def require_text(value: Any, name: str) -> None:
    """Raise a UserError where a value is no text."""
    if not isinstance(value, str):
        raise UserError(f"{name}: expected text, got {value!r:.80}")


def require_id(value: Any, name: str) -> None:
    """Raise a UserError where a value is no number of up to 64 bits, and no text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not isinstance(value, str) and not (is_number and -(2**63) <= value < 2**63):
        raise UserError(f"{name}: expected a number or text, got {value!r:.80}")


def require_box(value: Any, name: str) -> None:
    """Raise a UserError where a value is no list of four finite numbers."""
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise UserError(f"{name}: expected [x, y, width, height], got {value!r}")
    for number in value:
        require_number(number, name)


def _write_lines(path: PathLike, lines: Iterable[str]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part, open(part, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _list_lines(entries: Iterable[str]) -> Iterator[str]:
    """Lines of a list of entries that are json text already."""
    before = "["
    for entry in entries:
        yield before
        before = f"{entry},"
    # The last entry has no comma, and an empty list stands on one line.
    yield from ["[]"] if before == "[" else [before[:-1], "]"]


def _object_lines(lists: Mapping[str, Iterable[str]]) -> Iterator[str]:
    before = "{"
    for key, entries in lists.items():
        yield f"{before}{json.dumps(key)}:"
        yield from _list_lines(entries)
        before = ","
    yield "{}" if before == "{" else "}"


def _to_json(value: Any, indent: int | None = None) -> str:
    separators = (",", ":") if indent is None else None
    try:
        return json.dumps(value, indent=indent, separators=separators, allow_nan=False)
    except ValueError:  # a NaN or an infinity: rare, and what replaces them copies all
        return json.dumps(_finite(value), indent=indent, separators=separators, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
