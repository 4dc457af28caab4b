"""Which worker does what, by small files in a folder that all of them reach.

Leases only spare work. Two workers that do the same, because one was taken for dead, write the same
results under the same names.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def _machine() -> str:
    """Return what tells machines, and containers on one, apart."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return f"{socket.gethostname()} {uuid.getnode():x} {processes}"


class Leases:
    """Leases of one worker, which are renewed in the background while it lives.

    A worker on this machine is known to be dead by its process id, one elsewhere when its lease has
    not changed for `seconds`. Clocks of machines are not compared.

    Args:
        folder: where the files are; made where it is missing.
        seconds: how long a lease lasts that nobody renews.

    Attributes:
        owner: names this worker.
    """

    def __init__(self, folder: Path, seconds: float):
        folder.mkdir(exist_ok=True)
        self.owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._seconds = seconds
        self._machine = _machine()
        self._mine: set[str] = set()
        self._seen: dict[str, tuple[Any, float]] = {}  # state of others' leases, and since when
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, name: str) -> bool:
        """Take a lease that is free or whose owner is dead; return whether it is this worker's."""
        path = self._folder / name
        content = {"owner": self.owner, "machine": self._machine, "pid": os.getpid()}
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            if not self._is_abandoned(path):
                return False
            part = path.with_name(f".{name}.{self.owner}")
            part.write_text(json.dumps(content))
            os.replace(part, path)
            logger.info("took over %s, whose worker ended", name)
        else:
            with os.fdopen(handle, "w") as file:
                json.dump(content, file)
        self._mine.add(name)
        return True

    def is_mine(self, name: str) -> bool:
        """Return whether no other worker has taken it over."""
        return name in self._mine and _read(self._folder / name).get("owner") == self.owner

    def release(self, name: str) -> None:
        """Give a lease back."""
        if self.is_mine(name):
            with suppress(OSError):
                (self._folder / name).unlink()
        self._mine.discard(name)

    def keep_alive(self) -> None:
        """Start to renew the leases, in a thread; processes that fork do so before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._renew, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Give all back."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        for name in list(self._mine):
            self.release(name)

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / 4):
            for name in list(self._mine):
                if self.is_mine(name):
                    with suppress(OSError):  # a network file system that stutters
                        os.utime(self._folder / name)

    def _is_abandoned(self, path: Path) -> bool:
        """Return whether the owner is gone: known by its process, or by what has not changed."""
        content = _read(path)
        if content.get("machine") == self._machine and not _is_running(content.get("pid")):
            return True
        try:
            state = (path.stat().st_mtime_ns, content.get("owner"))
        except FileNotFoundError:  # given back just now: for the next attempt
            return False
        known, since = self._seen.get(path.name, (None, 0.0))
        if known != state:
            self._seen[path.name] = (state, time.monotonic())
            return False
        return time.monotonic() - since > self._seconds


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a lease; {} where it is gone or was not completed."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_running(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return True  # unknown: time will tell
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
