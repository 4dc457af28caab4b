"""What the scripts that prepare datasets share: command line, processes, files."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import cv2
from tqdm import tqdm

from ...errors import GOES_ON, one_line
from ...formats.atomic import atomic_path
from ...threads import available_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")
Job = tuple[Any, Path]


def run(
    description: str, prepare: Callable[..., None], splits: Sequence[str] = ("train", "val")
) -> None:
    """Read the arguments of a script and call ``prepare(root, split, workers=, overwrite=)``.

    Args:
        description: what the script says about itself; its docstring.
        splits: those there are; all are prepared unless --splits chooses.
    """
    parser = new_parser(description, "--root", "folder of the datasets")
    parser.add_argument("--splits", nargs="+", choices=splits, default=splits)
    options = vars(parser.parse_args())
    for split in options.pop("splits"):
        call(prepare, split=split, **options)


def new_parser(description: str, folder: str, folder_help: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all scripts have.

    Args:
        folder: the option that names a folder, by default the one in which detectron2 looks for
            datasets.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=formatter)
    root = os.environ.get("DETECTRON2_DATASETS", "datasets")
    parser.add_argument(folder, type=Path, default=root, help=folder_help)
    parser.add_argument("--workers", type=int, default=available_cpus(), help="processes")
    parser.add_argument("--overwrite", action="store_true", help="make again what exists")
    return parser


def call(prepare: Callable[..., Result], **arguments: Any) -> Result:
    """Call ``prepare`` and end the script with one line where the user has to do something."""
    with one_line(Path(sys.argv[0]).name, interrupted=GOES_ON):
        return prepare(**arguments)


def map_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, label: str
) -> Iterator[Result]:
    """Call ``function`` on every item and yield the results in the order of the items.

    The results do not depend on the number of workers. A progress bar runs on standard error.

    Args:
        function: has to be importable by name (or a ``functools.partial`` of one that is).
        workers: processes; 1 or less works in this one.
        label: what the progress bar says.

    Raises:
        OSError: a worker was killed; and whatever ``function`` raises.
    """
    bar = {"total": len(items), "desc": label, "unit": " files", "dynamic_ncols": True}
    if workers <= 1:
        yield from tqdm(map(function, items), **bar)
        return
    chunk = max(1, min(16, len(items) // (workers * 4)))
    try:
        with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
            # At an error, map cancels what no process has begun.
            yield from tqdm(pool.map(function, items, chunksize=chunk), **bar)
    except BrokenProcessPool as error:
        raise OSError(
            f"{label}: a worker was killed, for lack of memory perhaps; use fewer workers than "
            f"{workers}"
        ) from error


def _start_worker() -> None:
    cv2.setNumThreads(0)  # the processes share the cores already
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends them
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
            with atomic_path(target, sync=False) as partial:
                shutil.copyfile(source, partial)
