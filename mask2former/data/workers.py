"""What makes the workers of data loaders fail with an error that says the cure, and never hang."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.reduction import ForkingPickler
from types import FrameType
from typing import Any

from torch.utils.data import get_worker_info

from ..errors import UserError
from ..formats.pillow import set_max_pixels

_CURE = (
    "Set DATALOADER.NUM_WORKERS to a smaller number, or to 0. Otherwise give the container more "
    "shared memory (docker run --shm-size=8g), where that was too small; more memory, where the "
    "system killed the worker; or more open files (ulimit -n 65536)."
)
# What errors that workers report themselves say where the reason is a lack of one of these.
_LACKS = ("shared memory", "No space left on device", "Too many open files", "Cannot allocate")


class WorkerMapper:
    """A mapper for the workers of a data loader, and as it is where there are none.

    A worker's results go through shared memory. torch puts them there in a thread, whose errors
    reach nobody while the main process waits for ever; here it is done before.

    Args:
        mapper: what maps a record.
        max_pixels: INPUT.MAX_PIXELS, for workers that do not inherit it.
    """

    def __init__(self, mapper: Callable[[Any], Any], max_pixels: int) -> None:
        self.mapper = mapper
        self.max_pixels = max_pixels

    def __call__(self, record: Any) -> Any:
        if get_worker_info() is None:
            return self.mapper(record)
        set_max_pixels(self.max_pixels)
        result = self.mapper(record)
        return None if result is None else _InSharedMemory(result)


class _InSharedMemory:
    """A value that has been pickled for another process, where it arrives as itself."""

    def __init__(self, value: Any) -> None:
        self._pickled = bytes(ForkingPickler.dumps(value))

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return ForkingPickler.loads, (self._pickled,)


class WatchedLoader:
    """A data loader whose workers' deaths are errors that say what to do; else it is that loader.

    Args:
        loader: torch's, or one of detectron2's around it.
        num_workers: of it.
    """

    def __init__(self, loader: Iterable[Any], num_workers: int) -> None:
        self.loader = loader
        self._num_workers = num_workers

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches.

        Raises:
            WorkerError: a worker died, or lacked shared memory; says the cure.
        """
        try:
            for batch in self.loader:
                _watch_signal()  # torch's handler is there by now
                yield batch
        except (RuntimeError, OSError, EOFError) as error:
            text = str(error)
            reported = text.startswith("Caught ")  # by a worker that lives
            if not self._num_workers or (reported and not any(lack in text for lack in _LACKS)):
                raise
            raise _with_cure(error) from error

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # asked for by copy and pickle before there is one
            raise AttributeError(name)
        return getattr(self.loader, name)


class WorkerError(UserError, RuntimeError):
    """A worker that loads data died or lacked memory; the message says the cure."""


def _with_cure(error: Exception) -> WorkerError:
    if _CURE in str(error):
        return WorkerError(str(error))
    said = f"{type(error).__name__}: {error}"
    return WorkerError(f"A worker that loads data died or lacked memory. {_CURE} It said: {said}")


def _watch_signal() -> None:
    """Let torch's handler of SIGCHLD, which raises wherever the main process is, say the cure."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGCHLD)
    if not callable(handler) or not handler.__module__.startswith("torch."):
        return

    said: set[str] = set()  # raised again while the loader is taken down, it would only be printed

    def say_cure(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except RuntimeError as error:
            if str(error) not in said:
                said.add(str(error))
                raise _with_cure(error) from error

    signal.signal(signal.SIGCHLD, say_cure)
