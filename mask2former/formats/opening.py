"""Opening files, by whatever knows their path."""

import os
import sys
from typing import IO, Any

from .atomic import PathLike


def open_path(path: PathLike, mode: str = "rb", **options: Any) -> IO[Any]:
    """Open a file, or what detectron2's PathManager opens where detectron2 is imported: only then
    can anything else than files be known to it."""
    manager = sys.modules.get("detectron2.utils.file_io")
    opener = open if manager is None else manager.PathManager.open
    return opener(os.fspath(path), mode, **options)
