"""The options of commands that predict in tiles."""

import argparse
from typing import Any

from ..errors import UserError
from .grid import Tiling


def add_tile_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --tile and what belongs to it."""
    group = parser.add_argument_group(
        "images of any size", "predicted in tiles, whose results are joined and written as TIFF"
    )
    group.add_argument("--tile", type=int, metavar="SIZE", help="side of the tiles in pixels")
    group.add_argument(
        "--tile-overlap",
        type=int,
        metavar="N",
        help="pixels that tiles share (default: a quarter of SIZE)",
    )
    group.add_argument(
        "--channels",
        type=int,
        nargs="+",
        default=[],
        metavar="C",
        help="channels of a TIFF that are red, green and blue, or the one that is grey, from 1 on",
    )


def check_tile_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program, before it writes anything, where the options do not go together."""
    if args.tile is None and (args.tile_overlap is not None or args.channels):
        parser.error("--tile-overlap and --channels belong to --tile")
    try:
        if args.tile is not None:
            Tiling.of(args.tile, args.tile_overlap)
    except UserError as error:
        parser.error(f"--tile: {error}")


def tile_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what `TiledPredictor` and `TiledRuntime` take of the arguments."""
    return {"tile": args.tile, "overlap": args.tile_overlap, "channels": args.channels}
