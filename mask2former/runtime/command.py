"""Draw what an exported model sees, without torch and detectron2.

python -m mask2former.runtime model.onnx photo.jpg folder 'more/*.png' --output drawn
python -m mask2former.runtime model.onnx city.tif --tile 1024 --output drawn
python -m mask2former.runtime video.onnx --video-input clip.mp4 --output drawn.mp4
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from ..errors import SHOWN, interruptible, message
from ..formats.images import find_images
from ..formats.video.reading import open_source
from ..mosaic.command import add_tile_arguments, check_tile_arguments, tile_options
from ..mosaic.drawing import draw_mosaics
from ..results.regions import KINDS
from .drawing import Drawing
from .model import Runtime
from .tiled import TiledRuntime


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mask2former.runtime",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="an ONNX file of python -m mask2former.export")
    parser.add_argument("inputs", nargs="*", default=[], help="files, folders or quoted globs")
    parser.add_argument("--video-input", help="a video file, or a folder of frames")
    parser.add_argument(
        "--window", type=int, help="frames that a model for video sees together, 0 for all"
    )
    parser.add_argument(
        "--output",
        required=True,
        help="folder for the pictures and index.html; for video a file, such as drawn.mp4, or a "
        "folder for the frames",
    )
    parser.add_argument("--draw", choices=KINDS, help="which result; the richest by default")
    parser.add_argument("--save-json", action="store_true", help="write COCO-style results, too")
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        help="0 to 1: least score of instances (default 0.5), least class probability of panoptic "
        "segments (default: the model's), least fraction of a pixel's best class (default 0)",
    )
    parser.add_argument("--max-pixels", type=int, help="the largest photo that is read")
    parser.add_argument(
        "--providers", nargs="+", help="execution providers of onnxruntime, the preferred one first"
    )
    parser.add_argument("--threads", type=int, default=0, help="default: as many as cores")
    add_tile_arguments(parser)
    args = parser.parse_args(argv)
    check_tile_arguments(parser, args)
    if args.tile is not None and args.video_input:
        parser.error("--tile is for images, not for --video-input")
    if bool(args.inputs) == bool(args.video_input):
        parser.error("give images, or --video-input, and not both")
    if args.window is not None and not args.video_input:
        parser.error("--window is for --video-input")
    if args.confidence_threshold is not None and not 0 <= args.confidence_threshold <= 1:
        parser.error(f"--confidence-threshold is in 0 to 1, got {args.confidence_threshold}")
    return args


def run(args: argparse.Namespace) -> int:
    """Draw; return the exit code, 1 where images were left out.

    Raises:
        UserError, OSError: the model, an input or the output cannot be used.
    """
    wanted = args.confidence_threshold
    changes: dict[str, Any] = {"semantic_output": "labels"}
    if wanted is not None:
        changes["object_mask_threshold"] = wanted
    if args.max_pixels is not None:
        changes["max_pixels"] = args.max_pixels
    files = find_images(args.inputs, "")
    source = open_source(args.video_input) if args.video_input else None
    changes |= {"providers": args.providers, "threads": args.threads}
    changes["label_threshold"] = wanted or 0.0
    score_threshold = 0.5 if wanted is None else wanted
    failed: list[str] = []

    def leave_out(file: str, error: Exception) -> None:
        print(f"mask2former.runtime: left out {file}: {error}", file=sys.stderr)
        failed.append(file)

    options: dict[str, Any] = {"note": args.model, "on_error": leave_out}
    if args.tile is not None:
        changes |= {"score_threshold": score_threshold, **tile_options(args)}
        tiled = TiledRuntime(args.model, folder=args.output, **changes)
        options["kind"] = args.draw
        page, *results = draw_mosaics(tiled, files, args.output, tiled.classes, **options)
    else:
        drawing = Drawing(Runtime(args.model, **changes), args.draw, score_threshold, args.window)
        if source is not None:
            paths = drawing.draw_video(source, args.output, save_json=args.save_json)
            print(f"video drawn: {', '.join(map(str, paths))}")
            return 0
        options["save_json"] = args.save_json
        page, *results = drawing.draw_files(files, args.output, **options)
    for path in results:
        print(f"results: {path}")
    print(f"{len(files) - len(failed)} of {len(files)} images drawn: {page}")
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code: 0, 1 where images were left out, 2 after an error."""
    args = parse_args(argv)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        with interruptible("mask2former.runtime"):
            return run(args)
    except SHOWN as error:
        if os.environ.get("MASK2FORMER_DEBUG"):
            raise
        print(f"mask2former.runtime: error: {message(error)}", file=sys.stderr)
        return 2
