"""Files that are written atomically: complete under their name, or not at all."""

import errno
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PathLike = str | os.PathLike[str]


@contextmanager
def atomic_path(target: PathLike, *, sync: bool = True) -> Iterator[Path]:
    """Lend the name of a new empty file beside ``target``, which takes its place at the end.

    Where the block raises, the new file is deleted and ``target`` stays what it was; so it does
    where the block deletes the new file. The suffix is that of ``target``, for writers that choose
    the format by it.

    Args:
        target: the file to write; its folder must exist.
        sync: wait until file and name are on the disk, so that a power cut leaves the old file or
            the new one, and no empty one. False for the many files that can be made again.

    Raises:
        FileNotFoundError: the folder is missing.

    Example:
        >>> with atomic_path("results.json") as path:
        ...     path.write_text("{}")
    """
    target = Path(target)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Cannot write {target}: the folder {target.parent} is missing.")
    part, lock = _make_part(target)
    try:
        yield part
        if part.exists():
            # mkstemp's permissions are for the owner alone; give those that `open` would give.
            mask = os.umask(0)
            os.umask(mask)
            part.chmod(0o666 & ~mask)
            if sync:
                sync_path(part)
            part.replace(target)
            if sync:
                sync_path(target.parent)
    except BaseException as error:
        with suppress(FileNotFoundError):
            part.unlink()
        if is_disk_full(error) and error.filename is None:  # of a write, which names no file
            error.filename = str(target)
        raise
    finally:
        if lock is not None:
            os.close(lock)


@contextmanager
def atomic_folder(target: PathLike) -> Iterator[Path]:
    """Lend a new empty folder, which takes the place of ``target`` if the block raises nothing.

    Args:
        target: a folder that may exist; the folder that it is in is made.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target) as scratch:
        new = scratch / "new"
        new.mkdir()
        yield new
        if target.exists():
            target.replace(scratch / "old")
        new.replace(target)


@contextmanager
def scratch_folder(target: PathLike) -> Iterator[Path]:
    """Lend an empty folder beside ``target``, to prepare that in; it is deleted at the end, or,
    where the process is killed, by the next that prepares ``target``."""
    target = Path(target)
    scratch = target.with_name(_part_name(target))
    with suppress(FileExistsError):
        scratch.mkdir()
    lock = _lock(scratch, os.O_RDONLY)
    if lock is None:
        scratch = Path(tempfile.mkdtemp(prefix=f"{scratch.name}.", dir=target.parent))
    try:
        for left in scratch.iterdir():  # by a process that was killed
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_leftovers(target: PathLike) -> None:
    """Delete what a process has left beside ``target`` that was killed while it wrote it."""
    part = Path(target).with_name(_part_name(Path(target)))
    lock = _lock(part, os.O_RDONLY)
    if lock is None:
        return
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink()
    os.close(lock)


def _make_part(target: Path) -> tuple[Path, int | None]:
    """Make an empty file beside ``target`` for this process alone; return it and its lock.

    Its name is always the same, so that what a killed process left behind is used up by the next
    one that writes ``target``. Where two write it at once, the second takes a new name.
    """
    part = target.with_name(_part_name(target))
    lock = _lock(part, os.O_RDWR | os.O_CREAT)
    if lock is not None:
        os.ftruncate(lock, 0)
        return part, lock
    prefix = f".{target.stem[:20]}."  # beside it, a longer one may not fit the file system
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=target.suffix, dir=target.parent)
    os.close(handle)
    return Path(name), None


def _part_name(target: Path) -> str:
    mark = zlib.crc32(os.fsencode(target.name))
    return f".{target.stem[:20]}.{mark:08x}{target.suffix}"


def _lock(path: Path, flags: int) -> int | None:
    """Open a file or folder and lock it until it is closed.

    None where that cannot be: another process has it, it is a link or another user's, or the file
    system has no locks.
    """
    if fcntl is None:
        return None
    handle = None
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        opened, named = os.fstat(handle), path.lstat()  # its writer may have renamed it meanwhile
        is_file = stat.S_ISREG(opened.st_mode) and opened.st_nlink == 1
        is_sound = is_file or stat.S_ISDIR(opened.st_mode)
        if is_sound and os.path.samestat(opened, named) and opened.st_uid == os.geteuid():
            return handle
    except OSError:
        pass
    if handle is not None:
        os.close(handle)
    return None


def is_disk_full(error: BaseException) -> TypeGuard[OSError]:
    """Tell whether an error is that of a full disk, whatever was to be written there."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def sync_path(path: PathLike) -> None:
    """Have a file, or the names in a folder, written to the disk where the system can.

    Raises:
        OSError: the disk is full or broken; some file systems say so only now.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:  # others come from folders on some network file systems
        if is_disk_full(error) or error.errno == errno.EIO:
            raise
