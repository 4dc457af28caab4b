"""Files that are written atomically: complete under their name, or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    prefix = f".{target.stem[:20]}."  # beside it, a longer one may not fit the file system
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=target.suffix, dir=target.parent)
    os.close(handle)
    part = Path(name)
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
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise


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
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
