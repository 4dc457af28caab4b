"""Images of any size: read in windows, and written as tiled TIFF, row by row."""

from .reading import open_raster
from .writing import write_tiff

__all__ = ["open_raster", "write_tiff"]
