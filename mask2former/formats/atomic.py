"""Files that are written atomically: complete under their name, or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PathLike = str | os.PathLike[str]


@contextmanager
def atomic_path(target: PathLike) -> Iterator[Path]:
    """Lend the name of a new empty file beside ``target``, which takes its place at the end.

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
    part = new_part(target)
    try:
        yield part
        publish(part, target)
    except BaseException:
        with suppress(FileNotFoundError):
            part.unlink()
        raise


def new_part(target: PathLike) -> Path:
    """Make the new empty file beside ``target``, for writers that outlive a block.

    Whoever calls this passes it to ``publish`` in the end, or deletes it.

    Raises:
        FileNotFoundError: the folder is missing.
    """
    target = Path(target)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Cannot write {target}: the folder {target.parent} is missing.")
    handle, name = tempfile.mkstemp(
        prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent
    )
    os.close(handle)
    return Path(name)


def publish(part: Path, target: PathLike) -> None:
    """Give a finished file its name, with the permissions that ``open`` would give.

    mkstemp's are for the owner alone; writers may have made the file anew.
    """
    mask = os.umask(0)
    os.umask(mask)
    part.chmod(0o666 & ~mask)
    part.replace(target)
