"""Write the report while a model trains."""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase

from .pictures import TRAINING_FOLDER, TRAINING_PICTURES, write_training_pictures
from .writing import write_report

logger = logging.getLogger(__name__)


class ReportHook(HookBase):
    """Draw the first training images, and write the report after each evaluation and at the end.

    To be registered in the main process, behind evaluation and writers. What goes wrong with a
    report, such as a full disk, is a warning: training goes on.
    """

    def __init__(self, cfg: CfgNode, flush: Callable[[], None]) -> None:
        """
        Args:
            cfg: of the training.
            flush: writes what was measured into metrics.json.
        """
        self._cfg = cfg
        self._flush = flush
        self._drawn = 0

    def before_train(self) -> None:
        if self.trainer.start_iter > 0:  # a run goes on, whose first images were drawn
            self._drawn = len(self._pictures())
            return
        for path in self._pictures():
            self._try(path.unlink)

    def after_step(self) -> None:
        if self._drawn < TRAINING_PICTURES:
            self._try(self._draw)
        done = self.trainer.iter + 1
        period = self._cfg.TEST.EVAL_PERIOD
        if period > 0 and done % period == 0 and done < self.trainer.max_iter:
            self._flush()
            self._try(write_report, Path(self._cfg.OUTPUT_DIR))

    def after_train(self) -> None:
        ending = sys.exc_info()[1]
        is_early = ending is not None and self.trainer.iter < self._cfg.SOLVER.LOG_PERIOD
        if isinstance(ending, SystemExit | KeyboardInterrupt) or is_early:
            return  # somebody waits for the end, or nothing was measured
        path = self._try(write_report, Path(self._cfg.OUTPUT_DIR))
        if path is not None:
            logger.info("Report: %s", path)

    def _pictures(self) -> list[Path]:
        return list(Path(self._cfg.OUTPUT_DIR, TRAINING_FOLDER).glob("training_*.jpg"))

    def _draw(self) -> None:
        batch: Sequence[Any] = self.trainer.last_batch
        if not isinstance(batch, list) or not all(isinstance(item, dict) for item in batch):
            self._drawn = TRAINING_PICTURES  # of a loader of one's own
            return
        folder = Path(self._cfg.OUTPUT_DIR, TRAINING_FOLDER)
        name, form = self._cfg.DATASETS.TRAIN[0], self._cfg.INPUT.FORMAT
        start, self._drawn = self._drawn, TRAINING_PICTURES  # not again where it fails
        self._drawn = write_training_pictures(folder, batch, start, name, form)
        if self._drawn == start:  # no pictures in there
            self._drawn = TRAINING_PICTURES

    @staticmethod
    def _try(action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except Exception as error:  # days of training are not lost for a picture
            logger.warning("The report is not written: %s", error, exc_info=not _is_plain(error))
            return None


def _is_plain(error: Exception) -> bool:
    """Tell whether the message of an error says all."""
    return isinstance(error, OSError | ImportError)
