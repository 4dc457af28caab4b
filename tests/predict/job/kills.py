"""Jobs that are killed with SIGKILL when they change the disk for the n-th time.

As a script, `PYTHONPATH=. python tests/predict/job/kills.py --kills 20` kills one run at random
moments, as often as asked for, and compares the results with those of a run that nobody disturbed.
What is killed is the whole program, with workers, readers and encoders as they are by default.
"""

import argparse
import builtins
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What changes the disk. A file that was opened is empty when it is killed behind, and what was
# written to it may be missing when it is killed before the next change.
CHANGES = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir", "open")


class Changes:
    """Count changes of the disk, and kill this process at one of them.

    Args:
        fatal: which, from 1 on; 0 for none.
        behind: whether that change still happens.
    """

    def __init__(self, fatal: int = 0, behind: bool = False):
        self.count = 0
        self.fatal = fatal
        self.behind = behind
        self._lock = threading.Lock()

    def install(self) -> None:
        """Watch this process, for good."""
        for name in CHANGES:
            setattr(os, name, self._watched(getattr(os, name), lambda *a, **k: True))
        builtins.open = self._watched(builtins.open, _writes)

    def _watched(self, function: Callable[..., Any], counts: Callable[..., bool]) -> Any:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if not counts(*args, **kwargs):
                return function(*args, **kwargs)
            with self._lock:
                self.count += 1
                is_fatal = self.count == self.fatal
            if is_fatal and not self.behind:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return function(*args, **kwargs)
            finally:
                if is_fatal:
                    os.kill(os.getpid(), signal.SIGKILL)

        return watched


def _writes(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> bool:
    return not set(mode).isdisjoint("wax+")


def run_forked(work: Callable[[], Any], changes: Changes) -> tuple[int, int]:
    """Run something in a fork of this process.

    Returns:
        its exit status, below 0 for the signal that killed it, and the changes that it made.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            changes.install()
            work()
            os.write(writing, str(changes.count).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as file:
        count = int(file.read() or 0)
    return os.waitstatus_to_exitcode(status), count


def main() -> None:
    from tests.predict.job.tiny import PANOPTIC, WORDS, contents, leftovers, write_photos

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    write_photos(folder / "photos", args.photos)

    def start(output: Path, *more: str) -> subprocess.Popen:
        given = [str(folder / "photos"), "--output", str(output), "--config-file", str(PANOPTIC)]
        options = ["--confidence-threshold", "0", "--shard-size", "16", *more, "--opts", *WORDS]
        command = [sys.executable, "-m", "mask2former.predict", *given, *options]
        return subprocess.Popen(command, start_new_session=True)

    begin = time.monotonic()
    assert start(folder / "undisturbed").wait() == 0
    seconds = time.monotonic() - begin
    moments, killed = random.Random(args.seed), 0
    while killed < args.kills:
        process = start(folder / "killed")
        try:
            process.wait(moments.uniform(0.3, 1.0) * seconds * (0.5 + killed / args.kills))
        except subprocess.TimeoutExpired:
            # Half of the time the program alone is killed, and its helpers have to notice.
            (os.killpg if killed % 2 else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
            print(f"kill {killed}", flush=True)
        else:  # it was faster: once more from the start
            shutil.rmtree(folder / "killed")
    assert start(folder / "killed").wait() == 0
    assert contents(folder / "killed") == contents(folder / "undisturbed")
    assert leftovers(folder / "killed") == []
    print(f"{killed} kills, {args.photos} photos: every result there once and equal")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
