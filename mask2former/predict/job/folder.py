"""The folder of a job: its manifest and results of shards, complete or not there at all.

    OUT/job/job.json         what the job depends on, and what it is to make
    OUT/job/manifest.jsonl   a line for each shard, see `items`
    OUT/job/shards/000012    results of a shard; it is done when the file is there
    OUT/job/leases/000012    who works on it, see `leases`
    OUT/job/parts/000012.*   files that are being written

A shard's pictures are moved to their places in OUT before its results get their name.
"""

import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...formats.atomic import sync_path
from ...formats.json_files import (
    read_json,
    require_count,
    require_keys,
    require_text,
    write_json,
)
from .fingerprint import differences
from .items import Item, Manifest, damaged_job, write_manifest
from .leases import Leases
from .settings import ERRORS, FILES, FOLDERS

logger = logging.getLogger(__name__)

_OLD = ".job.old-"  # a job that is being deleted
_FINISHED = "finished.json"
_NEW = ".job.new-"  # one that is being made


class JobFolder:
    """The state of a job on disk, which many workers share.

    Args:
        output: folder that `open_job` has made.
        lease_seconds: see `Leases`.
    """

    def __init__(self, output: Path, lease_seconds: float):
        self.output = output
        self._job = output / "job"
        self.facts = _read_facts(self._job)
        self.manifest = Manifest(self._job / "manifest.jsonl", self.facts["items"])
        for name in ("shards", "parts"):
            (self._job / name).mkdir(exist_ok=True)
        self.leases = Leases(self._job / "leases", lease_seconds)
        self._done: set[int] = set()

    @property
    def root(self) -> Path:
        """Where relative paths of the manifest start."""
        return Path(self.facts["root"])

    def results(self, shard: int) -> Path:
        """Return the file of a shard's results."""
        return self._job / "shards" / f"{shard:06d}"

    def is_done(self, shard: int) -> bool:
        """Return whether a shard's results are there."""
        if shard not in self._done and self.results(shard).exists():
            self._done.add(shard)
        return shard in self._done

    def done(self) -> int:
        """Return how many shards are done, whoever did them."""
        names = (entry.name for entry in os.scandir(self._job / "shards"))
        self._done.update(int(name) for name in names if name.isdecimal())
        return len(self._done)

    def items_done(self) -> int:
        """Return how many items are in the shards that are done."""
        self.done()
        return sum(map(self.manifest.count, list(self._done)))

    def is_finished(self) -> bool:
        """Return whether the files of the whole job are written."""
        return (self._job / _FINISHED).exists()

    def files(self) -> list[Path]:
        """Return the files of a job that is finished."""
        path = self._job / _FINISHED
        names = read_json(path)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise damaged_job(path, "expected a list of names")
        return [self.output / name for name in names]

    def order(self, start: float) -> list[int]:
        """Return all shards, beginning somewhere in 0..1, so that workers do not crowd."""
        count = len(self.manifest)
        first = int(start * count)
        return [*range(first, count), *range(first)]

    def claim(self, shards: Iterable[int]) -> Iterator[int]:
        """Yield those shards that are to be done, each with its lease taken."""
        for shard in shards:
            if self.is_done(shard) or not self.leases.take(f"{shard:06d}"):
                continue
            if self.is_done(shard):  # by the worker that has just given the lease back
                self.leases.release(f"{shard:06d}")
                continue
            yield shard

    def part(self, name: str) -> Path:
        """Return a new folder for the files of a shard, or of the end, and delete earlier ones."""
        parts = self._job / "parts"
        for old in parts.glob(f"{name}.*"):
            shutil.rmtree(old, ignore_errors=True)
        part = parts / f"{name}.{self.leases.owner}"
        part.mkdir()
        return part

    def commit(self, shard: int, part: Path) -> bool:
        """Move a shard's files to their places, the results last.

        Args:
            part: folder of the files, at their places relative to the output; the results are the
                file "results".

        Returns:
            False where another worker took the shard over.
        """
        name = f"{shard:06d}"
        kept = self.leases.is_mine(name) and not self.is_done(shard)
        if kept:
            self._place(part, ("results",))
            _move(part / "results", self.results(shard))
            sync_path(self.results(shard).parent)
        shutil.rmtree(part, ignore_errors=True)
        self.leases.release(name)
        return kept

    def finish(self, write: Callable[[Path], Iterable[str]]) -> bool:
        """Write the files of the whole job, once all shards are done.

        Args:
            write: writes files into a folder and returns their names.

        Returns:
            False where another worker does it just now.
        """
        record = self._job / _FINISHED
        if not record.exists():
            if not self.leases.take("end"):
                return False
            part = self.part("end")
            try:
                write_json(part / record.name, list(write(part)))
                self._place(part, (record.name,))
                _move(part / record.name, record)
                sync_path(self._job)
            except FileNotFoundError:
                if not record.exists():  # else another worker took over and is through
                    raise
        self.tidy()
        return True

    def tidy(self) -> None:
        """Delete what a finished job needs no more, or workers that were killed have left."""
        for folder in (self._job / "parts", self._job / "leases"):
            for old in folder.iterdir():
                with suppress(OSError):
                    shutil.rmtree(old) if old.is_dir() else old.unlink()

    def close(self) -> None:
        """Give the leases back."""
        self.leases.close()

    def _place(self, part: Path, but: Sequence[str]) -> None:
        """Move files to the output; they are on the disk before this returns."""
        folders = set()
        for root, _, names in os.walk(part):
            target = self.output / Path(root).relative_to(part)
            for name in names:
                if name not in but:
                    target.mkdir(parents=True, exist_ok=True)
                    _move(Path(root, name), target / name)
                    folders.add(target)
        for folder in folders:
            sync_path(folder)


def _move(source: Path, target: Path) -> None:
    sync_path(source)
    os.replace(source, target)


def open_job(
    output: Path,
    expected: Mapping[str, Any],
    items: Callable[[], Iterable[Item]],
    *,
    overwrite: bool = False,
) -> None:
    """Make the folder of a job, or check that the one there is the same job.

    Args:
        output: made where it is missing.
        expected: the fingerprint.
        items: lists the inputs of a new job.
        overwrite: start anew.

    Raises:
        UserError: there is another job, there are results of something else, or no inputs.
        OSError: the folder cannot be written.
    """
    output.mkdir(parents=True, exist_ok=True)
    job = output / "job"
    if overwrite and job.exists():
        job.rename(output / f"{_OLD}{uuid.uuid4().hex[:8]}")
    for old in output.glob(f"{_OLD}*"):  # also one whose deletion was interrupted
        _delete_results(output)
        shutil.rmtree(old)
    if not job.exists():
        if overwrite:
            _delete_results(output)
        _make(output, job, expected, items)
    for new in output.glob(f"{_NEW}*"):  # there is a job: nobody needs it any more
        shutil.rmtree(new, ignore_errors=True)
    found = _read_facts(job)["fingerprint"]
    different = differences(found, json.loads(json.dumps(expected)))
    if different:
        raise UserError(
            f"{output} has a job of other settings, whose results would be mixed with these:\n  "
            + "\n  ".join(different)
            + "\nChoose another --output, or give --overwrite to delete those results."
        )


def _read_facts(job: Path) -> dict[str, Any]:
    """Return what `_make` wrote.

    Raises:
        FileNotFoundError: it is missing.
        UserError: it is damaged.
    """
    path = job / "job.json"
    facts = read_json(path)
    try:
        require_keys(facts, ("items", "shards", "videos", "root", "fingerprint"))
        require_text(facts["root"], "root")
        for key in ("items", "shards", "videos"):
            require_count(facts[key], key)
    except UserError as error:
        raise damaged_job(path, str(error)) from error
    if not isinstance(facts["fingerprint"], dict):
        raise damaged_job(path, "fingerprint: expected an object")
    return facts


def _make(
    output: Path, job: Path, expected: Mapping[str, Any], items: Callable[[], Iterable[Item]]
) -> None:
    foreign = [name for name in (*FILES.values(), ERRORS, *FOLDERS) if (output / name).exists()]
    if foreign:
        raise UserError(
            f"{output} has {', '.join(foreign)}, which no job has written. Choose another "
            "--output, or give --overwrite to delete them."
        )
    new = output / f"{_NEW}{uuid.uuid4().hex[:8]}"
    new.mkdir()
    try:
        counts = write_manifest(new / "manifest.jsonl", items(), expected["shard_size"])
        facts = dict(zip(("items", "shards", "videos"), counts))
        facts |= {"root": os.getcwd(), "fingerprint": expected}
        write_json(new / "job.json", facts)
        sync_path(new / "manifest.jsonl")
        sync_path(new)
        new.rename(job)
        sync_path(output)
    except OSError:
        if not job.exists():  # else another worker was faster
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _delete_results(output: Path) -> None:
    for name in (*FILES.values(), ERRORS):
        (output / name).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(output / name, ignore_errors=True)
