"""Run many cases in a forked process that may not last, grow, crash or run code."""

from __future__ import annotations

import json
import mmap
import os
import resource
import select
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mask2former.errors import SHOWN

_GRACE = 60  # seconds without any progress, however busy the machine is
_CODE = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.putenv")
_REACHING_OUT = ("socket.", "subprocess.", "ctypes.dlopen", "ctypes.call", "urllib.", "webbrowser.")
_FILES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.symlink")


@dataclass(frozen=True)
class Limits:
    """What one case may take.

    Attributes:
        seconds: of processor time.
        mebibytes: by which the process may grow, beyond what it had before.
        trip_wire: forbid running programs, writing files, sockets and imports.
    """

    seconds: float = 2
    mebibytes: int = 128
    trip_wire: bool = False


def run_cases(case: Callable[[int], Any], count: int, limits: Limits) -> list[str]:
    """Call ``case(0)`` to ``case(count - 1)``, each within the limits.

    Returns:
        a text for each case that failed. One that returns, or raises an error that is meant for
        users (see `is_for_user`), has not.
    """
    failures: list[str] = []
    begun = mmap.mmap(-1, 8)  # shared with the child: the case that it is at
    start = 0
    while start < count:
        end = _run_child(case, start, count, limits, begun, failures)
        if end is None:
            break
        at = struct.unpack("q", begun[:])[0]
        failures.append(f"case {at}: {end}")
        start = at + 1
    return failures


def is_for_user(error: BaseException) -> bool:
    """Return whether an error says what a user can put right; all others are faults of ours."""
    return isinstance(error, SHOWN) and bool(str(error).strip())


def _run_child(
    case: Callable[[int], Any],
    start: int,
    count: int,
    limits: Limits,
    begun: mmap.mmap,
    failures: list[str],
) -> str | None:
    """Fork a process that runs cases from ``start`` on; return how it died, None if it did not."""
    reading, writing = os.pipe()
    begun[:] = struct.pack("q", start)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _be_child(case, range(start, count), limits, begun, writing)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        stuck = _follow(pipe, begun, child, failures)
    _, status = os.waitpid(child, 0)
    if stuck:
        return f"no end within {_GRACE} seconds"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGPROF:
            return f"took more than {limits.seconds} seconds"
        return f"died by {signal.Signals(number).name}"
    return None if os.WEXITSTATUS(status) == 0 else "ended the process"


def _follow(pipe: Any, begun: mmap.mmap, child: int, failures: list[str]) -> bool:
    """Collect what the child reports until it ends; kill it where it stands still."""
    seen = None
    while True:
        if select.select([pipe], [], [], _GRACE)[0]:
            line = pipe.readline()
            if not line:
                return False
            failures.append(json.loads(line))
        elif seen == begun[:]:
            os.kill(child, signal.SIGKILL)
            return True
        seen = begun[:]


def _be_child(
    case: Callable[[int], Any], numbers: range, limits: Limits, begun: mmap.mmap, pipe: int
) -> None:
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # libraries in C complain there
    os.dup2(null, 2)
    _bound_memory(limits.mebibytes)
    tripped: list[str] = []
    if limits.trip_wire:
        _problem(case, 0)  # which is sound: what reading imports is imported then
        _lay_trip_wire(tripped)
    for number in numbers:
        begun[:] = struct.pack("q", number)
        before = _peak()
        signal.setitimer(signal.ITIMER_PROF, limits.seconds)
        problem = _problem(case, number)
        signal.setitimer(signal.ITIMER_PROF, 0)
        grown = (_peak() - before) / 1024
        if tripped:
            problem = f"tripped the wire: {', '.join(tripped)}"
            tripped.clear()
        elif grown > limits.mebibytes:
            problem = f"grew by {grown:.0f} MiB"
        if problem:
            text = json.dumps(f"case {number}: {problem}") + "\n"
            os.write(pipe, text.encode())
    os._exit(0)


def _problem(case: Callable[[int], Any], number: int) -> str:
    try:
        case(number)
    except Exception as error:
        if is_for_user(error):
            return ""
        lines = traceback.format_exception(error)
        return "".join(lines)[-1500:]
    return ""


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _bound_memory(mebibytes: int) -> None:
    """Let the address space grow by some multiple of what a case may take, and no further."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 8 * mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _lay_trip_wire(tripped: list[str]) -> None:
    """Note what a case does beyond reading and computing; the hook stays until the process ends."""

    def note(event: str, arguments: tuple) -> None:
        is_writing = event == "open" and (
            (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"))
            or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        )
        if is_writing and str(arguments[0]).startswith("/dev/"):
            return
        is_import = event == "import" and not arguments[0].startswith("encodings.")
        if is_writing or is_import or event.startswith((*_CODE, *_REACHING_OUT, *_FILES)):
            tripped.append(f"{event} {arguments!r:.200}")

    sys.addaudithook(note)
