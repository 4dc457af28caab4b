"""Progress of a training for people who watch it: a line now and then, or a bar."""

import datetime
import logging
import resource
import shutil
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..defaults import only_in_file
from ..report.curves import loss_family

logger = logging.getLogger(__name__)

_LOGGERS = ("detectron2", "fvcore", "mask2former")


class Clock(HookBase):
    """Measure how long a training takes apart from its steps; to be the first of the hooks.

    What is between two steps are evaluations, checkpoints and reports. A step that takes unusually
    long, as when a machine sleeps, does not count more than others.
    """

    def __init__(self, max_iter: int, eval_period: int) -> None:
        """
        Args:
            max_iter: iterations of the whole training.
            eval_period: iterations between two evaluations; 0 for one at the end.
        """
        self._max_iter = max_iter
        self._eval_period = eval_period
        self._step_ended: float | None = None
        self._pauses = 0.0  # seconds, without those that evaluations take part in
        self._pause_count = 0
        self._evaluations: list[float] = []

    def before_step(self) -> None:
        if self._step_ended is None:
            return
        seconds = time.perf_counter() - self._step_ended
        if self._is_evaluated(self.trainer.iter):
            self._evaluations.append(seconds)
        else:
            self._pauses += seconds
            self._pause_count += 1

    def after_step(self) -> None:
        self._step_ended = time.perf_counter()

    def seconds_left(self, done: int, step: float) -> tuple[float, int]:
        """Return the time that is left, and how many evaluations it does not contain.

        Args:
            done: iterations.
            step: seconds of one.
        """
        left = self._max_iter - done
        pause = self._pauses / max(self._pause_count, 1)
        seconds = left * (step + pause)
        evaluations = sum(self._is_evaluated(i) for i in self._evaluated_after(done)) + 1
        if not self._evaluations:
            return seconds, evaluations
        return seconds + evaluations * sum(self._evaluations) / len(self._evaluations), 0

    def _is_evaluated(self, done: int) -> bool:
        """Tell whether there is an evaluation after so many iterations, that at the end apart."""
        return self._eval_period > 0 and done % self._eval_period == 0 and done < self._max_iter

    def _evaluated_after(self, done: int) -> range:
        period = self._eval_period
        return range((done // period + 1) * period, self._max_iter, period) if period else range(0)


class ProgressPrinter(EventWriter):
    """Log one line about the progress of training.

    Losses of the decoder layers (loss_mask, loss_mask_0, loss_mask_1, ...) are shown as one sum;
    detectron2's JSONWriter keeps each of them.
    """

    def __init__(self, max_iter: int, window_size: int = 20, clock: Clock | None = None) -> None:
        """
        Args:
            max_iter: iterations of the whole training; the time left follows from it.
            window_size: number of latest iterations whose median is shown.
            clock: counts evaluations and pauses; None for the steps alone.
        """
        self._max_iter = max_iter
        self._window = window_size
        self._clock = clock or Clock(max_iter, 0)
        self._counts_evaluations = clock is not None

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter >= self._max_iter:
            return  # training is over, and its last iteration was shown
        histories = storage.histories()
        parts = [f"iter {storage.iter + 1}/{self._max_iter}"]
        if "total_loss" in histories:
            parts.append(f"loss {histories['total_loss'].median(self._window):.4g}{self._parts()}")
        if "time" in histories:
            parts.append(f"{histories['time'].median(self._window):.3f} s/iter")
        if "data_time" in histories:
            parts.append(f"data {histories['data_time'].median(self._window):.3f} s")
        if "lr" in histories:
            parts.append(f"lr {histories['lr'].latest():.2g}")
        storage.put_scalar("memory_mib", _peak_memory_mib(), smoothing_hint=False)
        if torch.cuda.is_available():
            parts.append(f"memory {_peak_memory_mib():.0f} MiB")
        if "time" in histories:
            parts.append(f"left {self._time_left(storage)}")
        self._show(parts)

    def _show(self, parts: list[str]) -> None:
        logger.info("  ".join(parts))

    def _parts(self) -> str:
        sums: dict[str, float] = defaultdict(float)
        for name, history in get_event_storage().histories().items():
            if family := loss_family(name):
                sums[family] += history.median(self._window)
        text = "  ".join(f"{name} {value:.4g}" for name, value in sums.items())
        return f" ({text})" if text else ""

    def _time_left(self, storage: EventStorage) -> str:
        step = storage.history("time").median(1000)
        seconds, unknown = self._clock.seconds_left(storage.iter + 1, step)
        storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
        text = str(datetime.timedelta(seconds=int(seconds)))
        if not unknown or not self._counts_evaluations:
            return text
        return f"{text} and {unknown} evaluation{'s' if unknown > 1 else ''}"


class ProgressBar(ProgressPrinter):
    """Show a bar with the same figures on the screen; log.txt gets the lines.

    Other messages go above the bar. Where the screen is no terminal, lines go there as well.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._bar: tqdm | None = None
        self._stack = ExitStack()
        self._is_shown = sys.stderr.isatty()

    def _show(self, parts: list[str]) -> None:
        if not self._is_shown:
            super()._show(parts)
            return
        with only_in_file():
            super()._show(parts)
        if self._bar is None:
            form = "{percentage:3.0f}% |{bar}| {desc}"
            # tqdm's own size of the terminal shows nothing where columns or rows are 0.
            size = {"ncols": shutil.get_terminal_size().columns, "nrows": 2}
            self._bar = tqdm(total=self._max_iter, bar_format=form, **size)
            loggers = [logging.getLogger(name) for name in _LOGGERS]
            self._stack.enter_context(logging_redirect_tqdm(loggers))
        first, *others = parts  # the time left before what narrow terminals cut off
        others.sort(key=lambda part: not part.startswith("left"))
        self._bar.set_description_str("  ".join([first, *others]), refresh=False)
        self._bar.update(get_event_storage().iter + 1 - self._bar.n)
        self._bar.refresh()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._stack.close()


PROGRESS = {"line": ProgressPrinter, "bar": ProgressBar}  # by TRAINING.PROGRESS


def _peak_memory_mib() -> float:
    """Return the most memory that the process has had: on the GPU where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, on macOS bytes
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
