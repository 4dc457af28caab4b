"""Hooks of the trainer: signals, safe checkpoints, lines of results."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import torch
from detectron2.engine import HookBase, hooks
from detectron2.evaluation import print_csv_format
from detectron2.utils import comm
from torch import nn

from ..errors import UserError
from ..evaluation.results import class_table
from .defaults import only_in_file
from .selection.best import BestWeights, StoppedEarly

logger = logging.getLogger(__name__)


def log_results(name: str, results: Mapping[str, Any]) -> None:
    """Log one line for each task, and into log.txt alone the metrics of single classes."""
    with only_in_file():
        print_csv_format(results)  # detectron2's form, which scripts look for in log.txt
        if table := class_table(results):
            logger.info("Classes of %s:\n%s", name, table)
    lines = []
    for task, metrics in results.items():
        shown = [f"{k} {v:.2f}" for k, v in metrics.items() if "-" not in k]
        lines.append(f"  {task}: {'  '.join(shown)}")
    logger.info("Results on %s:\n%s", name, "\n".join(lines))


class LRScheduler(hooks.LRScheduler):
    """detectron2's hook; of a saved schedule it takes how far it was, but not its form.

    So a resumed run may have another SOLVER.MAX_ITER or BASE_LR, and what was saved with one group
    for each parameter fits.
    """

    _form = ("base_lrs", "max_iters", "_last_lr")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state_dict.items() if k not in self._form})


class EvalHook(hooks.EvalHook):
    """detectron2's hook; the last evaluation is run only if training ended as planned.

    Args:
        period, evaluate: as of detectron2's.
        best: what keeps the best weights, if anything does.
        keep_best: called after each evaluation.
    """

    def __init__(
        self,
        period: int,
        evaluate: Callable[[], dict[str, Any]],
        best: BestWeights | None = None,
        keep_best: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(period, evaluate)
        self._best = best
        self._keep_best = keep_best

    def before_train(self) -> None:
        if self._best is None:
            return
        done = self.trainer.start_iter
        self._best.go_on(done)
        is_due = self._period > 0 and 0 < done < self.trainer.max_iter and done % self._period == 0
        if is_due and not self._best.knows(done - 1):
            self._make_up(done - 1)
        self._best.check()

    def _make_up(self, iteration: int) -> None:
        """Evaluate after an iteration where the run was stopped before that."""
        trainer = self.trainer
        logger.info("Making up for the evaluation after iteration %d", iteration)
        trainer.iter = trainer.storage.iter = iteration
        try:
            self._do_eval()
        finally:
            trainer.iter = trainer.storage.iter = iteration + 1

    def _do_eval(self) -> None:
        with naming_last_good(self.trainer.checkpointer):
            super()._do_eval()
            self._keep()

    def _keep(self) -> None:
        try:
            self._keep_best()
        except UserError:  # of the metric; what was trained so far is not lost
            if self.trainer.iter < self.trainer.max_iter:
                gather_run_state(self.trainer)
                name = f"model_{self.trainer.iter:07d}"
                self.trainer.checkpointer.save(name, iteration=self.trainer.iter)
            raise

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:
            with suppress(StoppedEarly):  # it has ended
                self._do_eval()
        del self._func, self._keep_best  # they refer to the trainer


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """detectron2's hook; refuses to save weights that are not finite.

    To be registered in every process, so that all stop together and give their states to the first
    one, which writes.
    """

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.period == 0 or done >= self.trainer.max_iter:
            check_finite(self.checkpointer.model, self.trainer.iter)
            gather_run_state(self.trainer)
        with naming_last_good(self.checkpointer):
            super().after_step()


@contextmanager
def naming_last_good(checkpointer: Any) -> Iterator[None]:
    """Have the errors of files that cannot be written say what a training goes on from."""
    try:
        yield
    except OSError as error:
        last = checkpointer.get_checkpoint_file() or "none yet"
        text = f"{error}. Training has stopped; the last good checkpoint is {last}"
        if error.errno is None:
            raise OSError(text) from error
        # with its number it stays a FileNotFoundError or whatever else it was
        raise OSError(error.errno, text.removeprefix(f"[Errno {error.errno}] ")) from error


def gather_run_state(trainer: Any) -> None:
    """Have the states of all processes at hand for a checkpoint, where the trainer saves them."""
    if hasattr(trainer, "run_state"):
        trainer.run_state.gather(trainer.iter)


def check_finite(model: nn.Module, iteration: int) -> None:
    """Raise FloatingPointError with the names of parameters that are not finite, if any."""
    bad = [name for name, p in model.named_parameters() if not torch.isfinite(p).all()]
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise FloatingPointError(
            f"weights are not finite after iteration {iteration}: {', '.join(bad[:3])}{more}; "
            "they are not saved"
        )


class TargetCounter(HookBase):
    """Warn once where a training image has more targets than the model has queries.

    Annotations that list objects are counted before training; of label maps this shows here.
    """

    def __init__(self, num_queries: int) -> None:
        self._num_queries = num_queries
        self._warned = False

    def after_step(self) -> None:
        batch = self.trainer.last_batch
        if self._warned or not isinstance(batch, list):
            return
        for item in batch:
            targets = item.get("instances") if isinstance(item, Mapping) else None
            frames = targets if isinstance(targets, list | tuple) else [targets]
            count = max((len(x) for x in frames if x is not None), default=0)
            if count > self._num_queries:
                self._warned = True
                logger.warning(
                    "%s has %d targets, more than the %d queries of the model, which learns the "
                    "rest as background; set MODEL.MASK_FORMER.NUM_OBJECT_QUERIES to %d or more "
                    "(said once; python -m mask2former.data.check recommends a number)",
                    item.get("file_name", "an image"), count, self._num_queries, count,
                )  # fmt: skip
                return


class StopOnSignal(HookBase):
    """End training with a checkpoint on SIGINT or SIGTERM, and exit with 130 or 143.

    The running iteration is finished first, the same one in all processes of a group; an evaluation
    is cut short (`interruptible`). A second Ctrl-C ends the process at once. To be registered after
    the hooks that change or save the training state, and before evaluation.
    """

    _signals = (signal.SIGINT, signal.SIGTERM)
    _grace_s = 3.0  # torchrun repeats a Ctrl-C that the terminal has sent to the workers already

    def __init__(self, checkpointer: Any) -> None:
        """
        Args:
            checkpointer: with detectron2's ``save(name, **extra)`` and ``get_checkpoint_file()``.
        """
        self._checkpointer = checkpointer
        self._received = 0
        self._received_at = 0.0
        self._last_done: int | None = None
        self._may_raise = False
        self._process = 0
        self._old_handlers: dict[int, Any] = {}

    def before_train(self) -> None:
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                self._old_handlers[number] = signal.signal(number, self._handle)

    def after_step(self) -> None:
        self._last_done = self.trainer.iter
        self._received = max(comm.all_gather(self._received))
        if self._received:
            gather_run_state(self.trainer)
            self._save_and_say()
            comm.synchronize()  # the others must not exit, and so end the group, during the save
            raise SystemExit(128 + self._received)

    def after_train(self) -> None:
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers.clear()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Mark a context without effect on the training state, which a signal may leave at once.

        What was trained before it is saved where it fails, in whichever process.
        """
        self._may_raise = True
        try:
            yield
        except _StoppedNow:
            self._save_and_say()
            raise
        except Exception:
            with suppress(OSError):  # of the disk, which may be what has failed
                self._save()
            raise
        finally:
            self._may_raise = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a data loader's worker, which ends with its parent
        if self._received:
            if number == signal.SIGINT and time.monotonic() - self._received_at > self._grace_s:
                raise KeyboardInterrupt
            return
        self._received, self._received_at = number, time.monotonic()
        if self._may_raise:
            raise _StoppedNow(128 + number)
        # Loggers are not safe in a signal handler.
        os.write(2, b"Stopping after this iteration; press Ctrl-C again to stop at once.\n")

    def _save_and_say(self) -> None:
        self._save()
        if self._last_done is not None:
            logger.info(
                "Stopped by %s after iteration %d. To go on, run the same command with --resume.",
                signal.Signals(self._received).name,
                self._last_done,
            )

    def _save(self) -> None:
        if self._last_done is None:
            return
        name = f"model_{self._last_done:07d}"
        last_saved = os.path.basename(self._checkpointer.get_checkpoint_file() or "")
        if last_saved != f"{name}.pth" and self._last_done + 1 < self.trainer.max_iter:
            self._checkpointer.save(name, iteration=self._last_done)


class _StoppedNow(SystemExit):
    """Raised by the signal handler where training may be left at once."""
