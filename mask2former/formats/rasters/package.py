"""tifffile, the package of the extra "tiles"."""

from typing import Any

from ...errors import MissingPackageError


def import_tifffile() -> Any:
    """Return tifffile; raise MissingPackageError with what to install."""
    try:
        import tifffile
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "TIFF of any size is read and written with tifffile: pip install 'mask2former[tiles]'"
        ) from error
    return tifffile
