"""What the scripts that prepare datasets share: workers, progress bars, atomic folders."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from ...formats.atomic import atomic_path
from ...formats.json_files import read_json, write_json

Item = TypeVar("Item")
Result = TypeVar("Result")
Job = tuple[Any, Path]

PARAMETERS_FILE = "parameters.json"


def map_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, label: str
) -> Iterator[Result]:
    """Call ``function`` on every item and yield the results in the order of the items.

    The results do not depend on the number of workers. A progress bar runs on standard error.

    Args:
        function: has to be importable by name (or a ``functools.partial`` of one that is).
        workers: processes; 1 or less works in this one.
        label: what the progress bar says.
    """
    bar = {"total": len(items), "desc": label, "unit": " files", "dynamic_ncols": True}
    if workers <= 1:
        yield from tqdm(map(function, items), **bar)
        return
    chunk = max(1, min(16, len(items) // (workers * 4)))
    with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
        try:
            yield from tqdm(pool.map(function, items, chunksize=chunk), **bar)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # report the first error without doing the rest
            raise


def _start_worker() -> None:
    cv2.setNumThreads(0)  # the processes share the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends them


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``path`` when the block ends without an error.

    A folder that was at ``path`` is deleted then, and only then.
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
    """Return a hidden name in the same folder that is not in use."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def build_folder(
    target: Path, parameters: dict[str, Any], fill: Callable[[Path], None], *, overwrite: bool
) -> bool:
    """Make the folder ``target`` with ``fill``, atomically, unless it exists.

    Args:
        parameters: all that the content depends on; kept in the folder, so that a second call with
            the same ones does nothing.
        fill: writes the content into the folder that it is given.
        overwrite: replace a folder that exists.

    Returns:
        Whether the folder was made now.

    Raises:
        FileExistsError: ``target`` holds something else, and ``overwrite`` is False.
    """
    found = _read_parameters(target)
    if found == parameters and not overwrite:
        return False
    if target.exists() and not overwrite:
        what = f"with other parameters ({found})" if found else "by something else"
        raise FileExistsError(
            f"{target} was made {what} and is left as it is; "
            f"asked for: {parameters}. Choose another folder, or overwrite it (--overwrite)."
        )
    with atomic_folder(target) as partial:
        fill(partial)
        write_json(partial / PARAMETERS_FILE, parameters, indent=1)
    return True


def _read_parameters(folder: Path) -> dict[str, Any] | None:
    """Return the parameters that ``folder`` was made with; None where that is not known."""
    try:
        return read_json(folder / PARAMETERS_FILE)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def list_files(folder: Path, pattern: str) -> list[Path]:
    """Return the sorted files of a folder whose names fit ``pattern``, such as ``"*.png"``.

    Raises:
        FileNotFoundError: the folder is missing, or has no such file.
    """
    files = [path for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]
    if not files:
        raise FileNotFoundError(
            f"{folder} has no {pattern}; datasets/README.md shows what has to be there"
        )
    return files


def convert_files(
    convert: Callable[[Job], None],
    jobs: Sequence[Job],
    *,
    label: str,
    workers: int = 1,
    overwrite: bool = False,
) -> None:
    """Make the targets that do not exist yet.

    Args:
        convert: makes one target, atomically.
        jobs: (what the target is made from, target path).
        label: what the progress bar says.
        workers: processes.
        overwrite: make those that exist again.
    """
    for folder in {target.parent for _, target in jobs}:
        folder.mkdir(parents=True, exist_ok=True)
    left = [job for job in jobs if overwrite or not job[1].exists()]
    for _ in map_parallel(convert, left, workers=workers, label=label):
        pass


def link_files(sources: Sequence[Path], folder: Path) -> None:
    """Make each file appear in ``folder`` too, as a link or else a copy, unless it does already."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        target = folder / source.name
        if target.exists():
            continue
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            with atomic_path(target) as partial:
                shutil.copyfile(source, partial)


def write_annotations(
    target: Path,
    describe: Callable[[Item], dict[str, Any]],
    items: Sequence[Item],
    categories: Sequence[Mapping[str, Any]],
    *,
    label: str,
    numbered: bool = True,
    workers: int = 1,
) -> None:
    """Write an annotation file in one of COCO's forms, atomically.

    Args:
        describe: returns the "image" of an item and its "annotations".
        items: as for ``collect_records``.
        label: what the progress bar says.
        numbered: give the annotations ids from 1 on.
        workers: processes.

    Raises:
        ValueError: there are no images, annotations or categories, or ids occur twice.
    """
    records = collect_records(describe, items, target, workers=workers, label=label)
    annotations = [a for record in records for a in record["annotations"]]
    if numbered:
        annotations = [{"id": i, **a} for i, a in enumerate(annotations, start=1)]
    images = [record["image"] for record in records]
    content = {"images": images, "annotations": annotations, "categories": list(categories)}
    for key, rows in content.items():
        if not rows:
            raise ValueError(f"{target} would have no {key}: is the dataset complete?")
        ids = [row["id"] for row in rows if "id" in row]
        if len(set(ids)) < len(ids):
            raise ValueError(f"{target} would have {key} with the same id")
    write_json(target, content)
    _journal(target).unlink()


def collect_records(
    describe: Callable[[Item], Any],
    items: Sequence[Item],
    target: Path,
    *,
    workers: int,
    label: str,
) -> list[Any]:
    """Call ``describe`` on every item, and after an interruption go on where it stopped.

    What is done is kept in a journal beside ``target``, one line of json an item, until
    ``write_annotations`` deletes it.

    Args:
        describe: returns something that json can hold.
        items: the same ones in the same order as before, else the journal is begun anew.
        target: the file that the records are for.
    """
    journal = _journal(target)
    journal.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr(item).encode())
    head = {"items": digest.hexdigest()}
    done = _read_journal(journal, head)
    # Rewritten, since an interruption may have cut the last line short.
    with atomic_path(journal) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in (head, *done)))
    with open(journal, "a") as file:
        left = items[len(done) :]
        for record in map_parallel(describe, left, workers=workers, label=label):
            line = json.dumps(record)
            file.write(line + "\n")
            file.flush()
            done.append(json.loads(line))
    return done


def _journal(target: Path) -> Path:
    return target.with_name(f".{target.name}.journal")


def _read_journal(journal: Path, head: Any) -> list[Any]:
    """Return the records of an interrupted run over the same items."""
    if not journal.exists():
        return []
    lines = []
    for text in journal.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break  # cut short
    return lines[1:] if lines and lines[0] == head else []
