"""A worker: takes shards, predicts them, and writes their results, until all are done."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from detectron2.config import CfgNode

from ...data import register_custom
from ...errors import UserError
from ...formats.atomic import is_disk_full
from ...modeling.backbone.timm_folding import fold_timm_norms
from ...ops.memory import is_out_of_memory, keep_freed_memory
from ..tiled import TiledPredictor
from ..video import VideoPredictor
from .encoding import Encoder, line, pack, reduce, unpack
from .folder import JobFolder
from .items import VIDEO, Item
from .reading import Batches, Read, read_items
from .settings import INSTANCES, LABELS, Settings
from .videos import UnreadableVideoError, predict_video

logger = logging.getLogger(__name__)

_POLL = 0.5  # seconds between looks at what other workers do


@dataclass
class _Shard:
    """A shard in work: its folder, and the lines of each item, or what will give them."""

    number: int
    part: Path
    lines: dict[int, list[str] | Future[list[str]]] = field(default_factory=dict)


class Worker:
    """A model that does the shards of a job which no other worker does.

    Args:
        settings: of the job.
        job: its folder.
        place: where in the list of shards to begin, in 0..1.
        on_images: is called with the number of images just done, and with 0 while waiting.

    Attributes:
        helper: a copy of the predictor without its model, which reads images and names classes.
    """

    def __init__(
        self,
        settings: Settings,
        job: JobFolder,
        place: float = 0.0,
        on_images: Callable[[int], None] = lambda count: None,
    ):
        self._settings = settings
        self._job = job
        self._place = place
        self._on_images = on_images
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._predictor = build_predictor(settings)
        keep_freed_memory()
        self.helper = self._predictor.without_model()
        self._encoder = Encoder(self.helper, settings, job.root)
        self._pool: ProcessPoolExecutor | None = None
        self._results: deque[Future[list[str]]] = deque()  # that are being encoded
        self._committer: ThreadPoolExecutor | None = None
        self._committing: Future[None] | None = None

    def run(self, shards: Sequence[int] | None = None) -> None:
        """Work until shards are done, by whichever worker.

        Args:
            shards: which; by default all of the job.

        Raises:
            OSError: results cannot be written, such as on a full disk; what is done stays.
            UserError: an input that cannot be read, with `stop_on_error`.
        """
        if shards is None:
            shards = self._job.order(self._place)
        # Waiting for the disk takes no processor: a shard is committed beside the next one.
        self._committer = ThreadPoolExecutor(1)
        try:
            if self._settings.encoders:
                self._pool = _start_pool(self._settings.encoders, self._encoder)
            while not self._are_done(shards):
                if not self._work(shards):
                    multiprocessing.active_children()  # so that the dead among them are known
                    time.sleep(_POLL)
                    self._on_images(0)
        finally:
            self._committer.shutdown()
            self._committing = None
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def _are_done(self, shards: Sequence[int]) -> bool:
        if len(shards) > 1:
            self._job.done()  # looks for all at once
        return all(map(self._job.is_done, shards))

    @torch.no_grad()
    def _work(self, shards: Iterable[int]) -> bool:
        """Do those shards that are free; return whether there was one."""
        shard = None
        places = self._claimed(shards)
        reads = read_items(places, self.helper, self._job.root, self._settings.readers)
        for read in reads:
            self._job.leases.keep_alive()
            if shard is None or read.shard != shard.number:
                self._predicted(shard)
                shard = _Shard(read.shard, self._job.part(f"{read.shard:06d}"))
                self._batches = Batches(
                    self._predictor.model, self._predictor.cfg, self._settings.batch
                )
            self._take(shard, read)
        self._predicted(shard)
        self._wait_for_commit()
        return shard is not None

    def _claimed(self, shards: Iterable[int]) -> Iterator[tuple[int, Item]]:
        for shard in self._job.claim(shards):
            yield from ((shard, item) for item in self._job.manifest[shard])

    def _take(self, shard: _Shard, read: Read) -> None:
        """Take in an item; predict it, or the batch that it completes."""
        item = read.item
        if read.error:
            self._failed(shard, item, read.error)
        elif isinstance(self._predictor, TiledPredictor):
            self._predict_tiles(shard, item)
        elif item.kind == VIDEO:
            try:
                shard.lines[item.index] = predict_video(
                    item, self._predictor, self._settings, self._job.root, shard.part
                )
            except UnreadableVideoError as error:
                self._failed(shard, item, str(error))
            else:
                self._on_images(1)
        else:
            self._predict(shard, self._batches.add(read))

    def _predict_tiles(self, shard: _Shard, item: Item) -> None:
        """Predict an image of any size and encode it, both here: results stream from the disk."""
        if item.kind == VIDEO:
            return self._failed(shard, item, "a video, but tiles are for images")
        keep_alive = self._job.leases.keep_alive
        try:
            mosaic = self._predictor(item.source(self._job.root), lambda done, count: keep_alive())
        except (OSError, UserError) as error:
            if is_disk_full(error):
                raise
            return self._failed(shard, item, str(error))
        with mosaic:
            shard.lines[item.index] = self._encoder.mosaic(item, mosaic, shard.part)
        self._on_images(1)

    def _failed(self, shard: _Shard, item: Item, error: str) -> None:
        if self._settings.stop_on_error:
            raise UserError(f"{item.file_name}: {error}")
        logger.warning("Left out %s: %s", item.file_name, error)
        entry = {"id": item.id, "file_name": item.file_name, "error": error}
        shard.lines[item.index] = [line("error", entry)]
        self._on_images(1)

    def _predict(self, shard: _Shard, batch: list[Read]) -> None:
        if not batch:
            return
        try:
            predictions = self._predictor.model([read.prepared for read in batch])
        except (ValueError, MemoryError, RuntimeError) as error:
            if not isinstance(error, ValueError) and not is_out_of_memory(error):
                raise
            if len(batch) == 1:
                self._failed(shard, batch[0].item, f"the model cannot take it: {error}")
            else:
                for read in batch:
                    self._predict(shard, [read])
            return
        for read, prediction in zip(batch, predictions, strict=True):
            kept = reduce(prediction, self._settings)
            shard.lines[read.item.index] = self._encode(read.item, kept, shard.part)
        self._on_images(len(batch))

    def _encode(self, item: Item, kept: dict, part: Path) -> list[str] | Future[list[str]]:
        if self._pool is None:
            return self._encoder.image(item, kept, part)
        while len(self._results) > 2 * (self._settings.encoders + self._settings.batch):
            self._results.popleft().result()  # so that predictions do not pile up
        self._results.append(self._pool.submit(_encode, item, pack(kept), part))
        return self._results[-1]

    def _predicted(self, shard: _Shard | None) -> None:
        """Predict what is left of a shard, and have it committed once the one before is."""
        if shard is None:
            return
        for batch in self._batches.rest():
            self._predict(shard, batch)
        self._wait_for_commit()
        self._committing = self._committer.submit(self._commit, shard)

    def _wait_for_commit(self) -> None:
        if self._committing is not None:
            self._committing.result()
            self._committing = None

    def _commit(self, shard: _Shard) -> None:
        if not self._job.leases.is_mine(f"{shard.number:06d}"):
            logger.info("shard %d was taken over by another worker", shard.number)
            return
        with open(shard.part / "results", "w", encoding="utf-8") as file:
            for _, lines in sorted(shard.lines.items(), key=lambda entry: entry[0]):
                lines = lines.result() if isinstance(lines, Future) else lines
                file.writelines(f"{text}\n" for text in lines)
        self._job.commit(shard.number, shard.part)


def build_predictor(settings: Settings) -> VideoPredictor | TiledPredictor:
    """Build the model, for images and videos, without outputs and norms that nobody needs."""
    cfg = settings.cfg.clone()
    cfg.defrost()
    register_custom(cfg)  # in this process, which may be another than the one that read the config
    if not cfg.MODEL.WEIGHTS:
        torch.manual_seed(0)  # all workers have the same random weights
    predictor = _predictor_of(cfg, settings)
    model, needs = fold_timm_norms(predictor.model), settings.needs
    # Instances depend on whether panoptic output is on, which stays as it is.
    for flag, output in (("semantic_on", LABELS), ("instance_on", INSTANCES)):
        if getattr(model, flag, False) and output not in needs:
            setattr(model, flag, False)
    if settings.label_threshold == 0 and hasattr(model, "semantic_output"):
        model.semantic_output = "labels"
    return predictor


def _predictor_of(cfg: CfgNode, settings: Settings) -> VideoPredictor | TiledPredictor:
    thresholds = {"array_format": "RGB", "score_threshold": settings.score_threshold}
    if settings.tile is None:
        return VideoPredictor(cfg, window=settings.window, **thresholds)
    return TiledPredictor(
        cfg,
        tile=settings.tile,
        overlap=settings.overlap,
        channels=settings.channels,
        label_threshold=settings.label_threshold,
        batch=settings.batch,
        folder=settings.output,
        **thresholds,
    )


_encoders: list[Encoder] = []  # of a process of the pool: its own


def _start_pool(processes: int, encoder: Encoder) -> ProcessPoolExecutor:
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(processes, context, _start_encoder, (encoder,))
    pool.submit(int).result()  # starts all of them, before there are threads
    return pool


def _start_encoder(encoder: Encoder) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    end_with_parent()
    _encoders[:] = [encoder]


def _encode(item: Item, packed: bytes, part: Path) -> list[str]:
    return _encoders[0].image(item, unpack(packed), part)


def end_with_parent() -> None:
    """End this process when the one that started it has ended, however that came about."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        with suppress(Exception):
            logging.shutdown()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=wait, daemon=True).start()
