"""What the scripts that prepare data sets share: workers, progress bars, whole folders."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from mask2former.files import atomic_path

__all__ = ["build_folder", "map_parallel", "whole_folder", "write_json"]

Item = TypeVar("Item")
Result = TypeVar("Result")

PARAMETERS_FILE = "parameters.json"


def map_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, label: str
) -> list[Result]:
    """Calls ``function`` on every item and returns the results in the order of the items.

    The result does not depend on the number of workers. A progress bar runs on standard error.

    Args:
        function: has to be importable by name (or a ``functools.partial`` of one that is).
        workers: processes; 1 or less works in this one.
        label: what the progress bar says.
    """
    bar = {"total": len(items), "desc": label, "unit": " files", "dynamic_ncols": True}
    if workers <= 1:
        return list(tqdm(map(function, items), **bar))
    chunk = max(1, min(16, len(items) // (workers * 4)))
    with ProcessPoolExecutor(workers, initializer=_one_thread) as pool:
        return list(tqdm(pool.map(function, items, chunksize=chunk), **bar))


def _one_thread() -> None:
    cv2.setNumThreads(0)  # the processes share the cores already


def write_json(path: str | os.PathLike, content: Any, *, indent: int | None = None) -> None:
    """Writes ``content`` as json to ``path``, whole or not at all; missing folders are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    separators = (",", ":") if indent is None else None
    text = json.dumps(content, indent=indent, separators=separators, ensure_ascii=False)
    with atomic_path(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a new folder that takes the place of ``path`` when the block ends without an error.

    What stood at ``path`` before is deleted then, and only then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = _beside(path), _beside(path)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A hidden name in the same folder that nobody else uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def build_folder(
    target: Path, parameters: dict[str, Any], fill: Callable[[Path], None], *, overwrite: bool
) -> bool:
    """Makes the folder ``target`` with ``fill``, whole or not at all, unless it is there already.

    Args:
        parameters: all that the content depends on; kept in the folder, so that a second call with
            the same ones does nothing.
        fill: writes the content into the folder that it is given.
        overwrite: replace a folder that was made otherwise.

    Returns:
        Whether the folder was made now.

    Raises:
        FileExistsError: ``target`` holds something else, and ``overwrite`` is False.
    """
    found = _read_parameters(target)
    if found == parameters:
        return False
    if target.exists() and not overwrite:
        what = f"with other parameters ({found})" if found else "by something else"
        raise FileExistsError(
            f"{target} was made {what} and is left as it is; "
            f"asked for: {parameters}. Choose another folder, or overwrite it (--overwrite)."
        )
    with whole_folder(target) as partial:
        fill(partial)
        write_json(partial / PARAMETERS_FILE, parameters, indent=1)
    return True


def _read_parameters(folder: Path) -> dict[str, Any] | None:
    """The parameters that ``folder`` was made with; None where that is not known."""
    try:
        return json.loads((folder / PARAMETERS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
