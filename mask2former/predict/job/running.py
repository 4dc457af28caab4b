"""A job from its inputs to its files, with several workers on this machine or on many."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from ...errors import SHOWN, UserError, message
from ..image import Predictor
from .fingerprint import fingerprint
from .folder import JobFolder, open_job
from .inputs import find_items
from .merging import count_errors, write_results
from .settings import Settings, is_for_video
from .worker import Worker, build_predictor, end_with_parent

logger = logging.getLogger(__name__)

_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"
_LOG_SECONDS = 30  # between lines on the progress where there is no terminal
_SCAN_SECONDS = 2  # between looks at what workers on other machines have done
_POLL = 0.5
_ENDS_ALL = 2  # exit code of a worker after an error that the others would meet as well


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
        files: written, in the output folder.
        items: number of inputs.
        errors: how many of them could not be read; see errors.jsonl.
    """

    files: list[Path]
    items: int
    errors: int


def run_job(
    settings: Settings,
    inputs: Sequence[str],
    *,
    workers: int = 1,
    place: float = 0.0,
    overwrite: bool = False,
    progress: bool = False,
    predict: Callable[[JobFolder], None] | None = None,
) -> Outcome:
    """Predict all inputs, or what is left of them, and write the results.

    Args:
        settings: of the job.
        inputs: files, folders, globs, lists and archives; see `find_items`.
        workers: processes with a model each, this one among them.
        place: where in the list of shards to begin, in 0..1: other machines begin elsewhere.
        overwrite: delete what an earlier job has left in the folder.
        progress: show a bar on a terminal, and lines in the log elsewhere.
        predict: does all shards in the place of workers of this process.

    Raises:
        UserError: no inputs, or the folder has another job; an unreadable input, with
            `stop_on_error`; or a worker beside this one ended with an error.
        OSError: a missing file, or results that cannot be written.
    """
    expected = fingerprint(settings.cfg, inputs, **settings.facts())
    open_job(
        settings.output,
        expected,
        lambda: find_items(inputs, for_video=is_for_video(settings.cfg)),
        overwrite=overwrite,
    )
    job = JobFolder(settings.output, settings.lease_seconds)
    try:
        if job.is_finished():
            job.tidy()
        else:
            if predict is None:
                predictor = _predict(settings, job, workers, place, progress)
            else:
                predict(job)
                predictor = build_predictor(settings)
            write = partial(write_results, job=job, settings=settings, predictor=predictor)
            while not job.finish(write):
                time.sleep(_POLL)  # another worker writes them
    finally:
        job.close()
    return Outcome(job.files(), job.facts["items"], count_errors(job))


def _predict(
    settings: Settings, job: JobFolder, workers: int, place: float, progress: bool
) -> Predictor:
    """Do the shards that are left; return what names the classes."""
    workers = min(workers, len(job.manifest) - job.done())
    # A number for each worker, without a lock, which one that is killed would keep for ever.
    counted = multiprocessing.RawArray("q", max(workers, 1))
    group = _Group(settings, workers, place, counted)
    bar = _Progress(job, counted, progress)

    def on_images(count: int) -> None:
        counted[0] += count
        bar.update()
        group.check()

    try:
        worker = Worker(on_device(settings, 0), job, place, on_images)
        worker.run()
        return worker.helper
    finally:
        bar.close()
        group.close()


class _Group:
    """The other workers on this machine.

    Args:
        count: workers in all, this process among them.
        counted: shared numbers of images that each has done.
    """

    def __init__(self, settings: Settings, count: int, place: float, counted: Any):
        context = _context(settings)
        self._processes: list[multiprocessing.Process] = []
        for i in range(1, count):
            arguments = (on_device(settings, i), (place + i / count) % 1, counted, i)
            self._processes.append(context.Process(target=_run_beside, args=arguments))
            self._processes[-1].start()

    def check(self) -> None:
        """Go on without workers that died; raise where one met an error."""
        for process in [p for p in self._processes if p.exitcode is not None]:
            self._processes.remove(process)
            if process.exitcode == _ENDS_ALL:
                raise UserError("a worker ended with the error above; the job goes on from here")
            if process.exitcode:
                logger.warning(
                    "A worker died (%s); the others do its part. If it lacked memory, give fewer "
                    "--workers or a smaller --batch.",
                    process.exitcode,
                )

    def close(self) -> None:
        """End them; after all shards are done they have ended."""
        for process in self._processes:
            process.join(0.5)
            process.terminate()
        for process in self._processes:
            process.join()


def _context(settings: Settings) -> Any:
    """Return how workers are started: forked where that is safe, as importing all takes seconds.

    A fork lacks the threads of its parent, which torch may wait for where it computes with several,
    and cannot use a GPU.
    """
    is_safe = (
        "fork" in multiprocessing.get_all_start_methods()
        and settings.cfg.MODEL.DEVICE == "cpu"
        and settings.threads == 1
        and threading.active_count() == 1
    )
    return multiprocessing.get_context("fork" if is_safe else "spawn")


def _run_beside(settings: Settings, place: float, counted: Any, number: int) -> None:
    """Run a worker in a process of its own, which ends when the one that started it does."""
    end_with_parent()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    setup_logger(name="mask2former", abbrev_name="m2f")

    def on_images(count: int) -> None:
        counted[number] += count

    job = JobFolder(settings.output, settings.lease_seconds)
    try:
        Worker(settings, job, place, on_images).run()
    except SHOWN as error:
        logger.error("%s", message(error))
        sys.exit(_ENDS_ALL)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        job.close()


def on_device(settings: Settings, number: int) -> Settings:
    """Return the settings of a worker on this machine, each on its GPU where there are several."""
    device = settings.cfg.MODEL.DEVICE
    if device != "cuda" or torch.cuda.device_count() < 2:
        return settings
    cfg = settings.cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = f"cuda:{number % torch.cuda.device_count()}"
    return replace(settings, cfg=cfg)


class _Progress:
    """How many images are done, on all machines, and how long the rest takes."""

    def __init__(self, job: JobFolder, counted: Any, shown: bool):
        self._job = job
        self._counted = counted
        self._start = job.items_done()
        options = {"total": job.facts["items"], "initial": self._start, "unit": "image"}
        self._bar = tqdm(disable=None if shown else True, bar_format=_BAR, **options)
        self._logs = shown and self._bar.disable
        self._began = self._logged = self._scanned = time.monotonic()
        self._found = self._start

    def update(self) -> None:
        """Show what has been done by now."""
        now = time.monotonic()
        if now - self._scanned > _SCAN_SECONDS:
            self._found, self._scanned = self._job.items_done(), now
        done = min(max(self._found, self._start + sum(self._counted)), self._job.facts["items"])
        self._bar.update(done - self._bar.n)
        if self._logs and now - self._logged > _LOG_SECONDS:
            self._logged = now
            rate = (done - self._start) / (now - self._began)
            left = (self._job.facts["items"] - done) / max(rate, 1e-9)
            text = "%d of %d images, %.1f images/s, %.0f minutes left"
            logger.info(text, done, self._job.facts["items"], rate, left / 60)

    def close(self) -> None:
        """Show the last state."""
        self.update()
        self._bar.close()


def place_among_workers(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Return rank and number of workers that torchrun or SLURM has started; None for one alone.

    Tasks of a SLURM array count as workers, and so do those of one srun.
    """
    with suppress(KeyError, ValueError):
        if int(environment["WORLD_SIZE"]) > 1:
            return int(environment["RANK"]), int(environment["WORLD_SIZE"])
    with suppress(KeyError, ValueError):
        first = int(environment.get("SLURM_ARRAY_TASK_MIN", 0))
        rank = int(environment["SLURM_ARRAY_TASK_ID"]) - first
        return rank, max(int(environment.get("SLURM_ARRAY_TASK_COUNT", rank + 1)), rank + 1)
    with suppress(KeyError, ValueError):
        if int(environment["SLURM_NTASKS"]) > 1:
            return int(environment["SLURM_PROCID"]), int(environment["SLURM_NTASKS"])
    return None
