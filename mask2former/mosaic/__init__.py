"""Images of any size: windows over space, whose results are joined to those of the whole image.

With numpy alone, so that models and the runtime share it:

raster, grid -> tiles -> model -> TilePrediction -> Joiner -> Mosaic -> files
"""

from .grid import Grid, Tile, Tiling
from .joining import Options, TilePrediction
from .result import Instance, Mosaic, predict_mosaic

__all__ = [
    "Grid",
    "Instance",
    "Mosaic",
    "Options",
    "Tile",
    "TilePrediction",
    "Tiling",
    "predict_mosaic",
]
