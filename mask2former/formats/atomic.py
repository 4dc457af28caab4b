"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(target: str | os.PathLike) -> Iterator[Path]:
    """Lends the name of a new empty file beside ``target``, which takes its place at the end.

    Where the block raises, the new file is deleted and ``target`` stays what it was. The suffix
    is that of ``target``, for writers that choose the format by it.

    Args:
        target: the file to write; its folder must exist.

    Raises:
        FileNotFoundError: the folder is missing.

    Example:
        >>> with atomic_path("results.json") as path:
        ...     path.write_text("{}")
    """
    target = Path(target)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Cannot write {target}: the folder {target.parent} is missing.")
    handle, name = tempfile.mkstemp(
        prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent
    )
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, _mode_of_new_files())  # at the end: writers may have made the file anew
        os.replace(name, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _mode_of_new_files() -> int:
    """Returns the permissions that ``open`` would give (mkstemp's are for the owner alone)."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
