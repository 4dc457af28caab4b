#!/usr/bin/env python
"""Draw what a model sees: in images, as pictures on a page side by side, and in video.

    python demo/demo.py --config-file CONFIG --input photo.jpg folder 'more/*.png' --output drawn \\
        --opts MODEL.WEIGHTS model_final.pth
    python demo/demo.py --config-file CONFIG --dataset shapes_val_panoptic --output drawn
    python demo/demo.py --config-file CONFIG --input photo.jpg --masks masks.json --output drawn
    python demo/demo.py --config-file CONFIG --input city.tif --tile 1024 --output drawn
    python demo/demo.py --config-file CONFIG --video-input clip.mp4 --output drawn.mp4
"""

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

# Used by fvcore and detectron2, in part while they are imported, which is why this comes first.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
# ruff: noqa: E402

# isort: off
import mask2former  # noqa: F401 (first, before torch is loaded: see mask2former/threads.py)
from detectron2.config import CfgNode

# isort: on
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from mask2former.data.datasets.common import require_registered
from mask2former.errors import SHOWN, UserError, interruptible
from mask2former.formats.images import find_images
from mask2former.formats.video.reading import open_source
from mask2former.modeling.mask_classifier import SamPrompts
from mask2former.mosaic.command import add_tile_arguments, check_tile_arguments, tile_options
from mask2former.predict import (
    GROUND_TRUTH,
    Demo,
    MaskPredictor,
    MaskSource,
    Predictor,
    TiledPredictor,
    VideoPredictor,
)
from mask2former.predict.configs import predict_config
from mask2former.predict.tiled import draw_tiled
from mask2former.threads import describe_threads
from mask2former.visualization import KINDS

SAM = "sam"  # as a source of masks


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="yaml file of the model")
    parser.add_argument("--input", nargs="+", default=[], help="files, folders or quoted globs")
    parser.add_argument(
        "--video-input", help="a video file, a folder of frames, or the number of a camera"
    )
    parser.add_argument(
        "--output",
        required=True,
        help="folder for the pictures and index.html; for video a file, such as drawn.mp4, or a "
        "folder for the frames",
    )
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        help="0 to 1: least score of instances (default 0.5), least class probability of panoptic "
        "segments (default: the config's), least fraction of a pixel's best class (default 0)",
    )
    parser.add_argument("--draw", choices=KINDS, help="which output; the richest by default")
    parser.add_argument(
        "--dataset",
        help="a registered dataset: its ground truth is drawn beside; without "
        "--input its images are taken",
    )
    parser.add_argument("--max-images", type=int, help="stop after so many")
    parser.add_argument(
        "--max-pixels",
        type=int,
        help="the largest photo that is read (INPUT.MAX_PIXELS; by default 179 million pixels)",
    )
    parser.add_argument("--save-json", action="store_true", help="write COCO-style results, too")
    parser.add_argument(
        "--window",
        type=int,
        help="frames that a model for video looks at together (default: the config's, or 16); 0 "
        "for the whole video at once, as published",
    )
    parser.add_argument(
        "--skip-damaged", action="store_true", help="leave out frames that cannot be read"
    )
    add_mask_arguments(parser)
    add_tile_arguments(parser)
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... of the config, last"
    )
    args = parser.parse_args(argv)
    if not args.input and not args.dataset and not args.video_input:
        parser.error("give --input, --video-input, or --dataset to take its images")
    if args.video_input and (args.input or args.dataset):
        parser.error("--video-input goes without --input and --dataset")
    if args.max_images is not None and args.max_images < 1:
        parser.error(f"--max-images is 1 or more, got {args.max_images}")
    if args.max_pixels is not None and args.max_pixels < 1:
        parser.error(f"--max-pixels is 1 or more, got {args.max_pixels}")
    if args.confidence_threshold is not None and not 0 <= args.confidence_threshold <= 1:
        parser.error(f"--confidence-threshold is in 0 to 1, got {args.confidence_threshold}")
    check_mask_arguments(parser, args)
    check_tile_arguments(parser, args)
    if args.tile is not None and (args.dataset or args.video_input or args.masks):
        parser.error("--tile is for images of --input, without --dataset and --masks")
    return args


def add_mask_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --masks, which names masks of a file, of the ground truth or of SAM, and its options."""
    defaults = SamPrompts()
    iou, stability = defaults.min_iou, defaults.min_stability
    group = parser.add_argument_group(
        "names for given masks", "for a config of a MaskClassifier; writes instances.json, too"
    )
    group.add_argument(
        "--masks",
        metavar="SOURCE",
        help=f"a COCO json or a PNG of labels; a folder with one of them for each image; {SAM!r}; "
        f"or {GROUND_TRUTH!r}, that of --dataset",
    )
    group.add_argument("--sam-weights", metavar="DIR", help="folder of SAM's weights")
    group.add_argument(
        "--points", nargs="+", type=numbers, default=[], metavar="X,Y", help="one mask each"
    )
    group.add_argument(
        "--boxes", nargs="+", type=numbers, default=[], metavar="X0,Y0,X1,Y1", help="one mask each"
    )
    group.add_argument(
        "--grid",
        type=int,
        default=defaults.grid,
        help=f"without points and boxes: points along a side (default {defaults.grid})",
    )
    group.add_argument(
        "--sam-thresholds",
        nargs=2,
        type=float,
        default=(iou, stability),
        metavar=("IOU", "STABILITY"),
        help=f"minimum of both for a mask of the grid, 0 to 1 (default {iou} {stability})",
    )


def check_mask_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program where the options do not go together; fill in what --masks implies."""
    prompts = args.points or args.boxes
    if args.masks != SAM and (prompts or args.sam_weights):
        parser.error(f"--points, --boxes and --sam-weights belong to --masks {SAM}")
    if args.masks == GROUND_TRUTH and not args.dataset:
        parser.error(f"--masks {GROUND_TRUTH} takes the masks of --dataset, which is missing")
    if args.masks and args.video_input:
        parser.error("--masks names masks of images, not of --video-input")
    if args.masks:
        args.save_json = True
        args.draw = args.draw or "instance"


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers of a point or box, from text such as 12,30.5."""
    return tuple(float(part) for part in text.split(","))


def setup_config(args: argparse.Namespace) -> CfgNode:
    """Read the config of the model; register the custom datasets that it names and that exist."""
    return predict_config(
        args.config_file,
        args.opts,
        datasets=[args.dataset] if args.dataset else [],
        confidence=args.confidence_threshold,
        max_pixels=args.max_pixels,
    )


def drawing(args: argparse.Namespace) -> dict[str, Any]:
    """Return what images and videos are drawn with."""
    wanted = args.confidence_threshold
    score = 0.5 if wanted is None else wanted
    return {"kind": args.draw, "score_threshold": score, "label_threshold": wanted or 0.0}


def build_mask_predictor(
    args: argparse.Namespace, cfg: CfgNode
) -> tuple[MaskPredictor, MaskSource]:
    """Build the predictor and say where its masks come from.

    Raises:
        UserError, OSError: SAM's weights, the model or the prompts cannot be used.
    """
    if args.masks != SAM:
        return MaskPredictor(cfg, array_format="RGB"), MaskSource(args.masks)
    folder = args.sam_weights or cfg.MODEL.SAM.WEIGHTS
    if not folder:
        raise UserError(f"--masks {SAM} needs --sam-weights, a folder of SAM's weights")
    prompts = SamPrompts(args.points, args.boxes, args.grid, *args.sam_thresholds)
    return MaskPredictor(cfg, array_format="RGB", sam=folder), MaskSource(prompts)


def run_images(args: argparse.Namespace) -> int:
    """Draw images; return the exit code, 1 where some were left out.

    Raises:
        UserError, OSError: the config, the model, the inputs or the output folder cannot be used.
    """
    cfg = setup_config(args)
    if args.dataset:
        require_registered(args.dataset)
    files = find_images(args.input)[: args.max_images]
    failed: list[str] = []

    def leave_out(file: str, error: Exception) -> None:
        tqdm.write(f"demo.py: left out {file}: {error}", file=sys.stderr)
        failed.append(file)

    note = f"{args.config_file}, {cfg.MODEL.WEIGHTS or 'random weights'}"
    options = {"note": note, "on_error": leave_out}
    if args.tile is not None:
        given = drawing(args) | tile_options(args)
        options["kind"] = given.pop("kind")
        predictor = TiledPredictor(cfg, array_format="RGB", folder=args.output, **given)
        page, *results = draw_tiled(predictor, files, args.output, **options)
    else:
        masks = build_mask_predictor(args, cfg) if args.masks else None
        predictor, source = masks or (Predictor(cfg, array_format="RGB"), None)
        demo = Demo(predictor, dataset=args.dataset, masks=source, **drawing(args))
        files = files or demo.images[: args.max_images]
        options |= {"save_json": args.save_json, "progress": True}
        page, *results = demo.draw_files(files, args.output, **options)
    for path in results:
        print(f"results: {path}")
    print(f"{len(files) - len(failed)} of {len(files)} images drawn: {page}")
    return 1 if failed else 0


def run_video(args: argparse.Namespace) -> int:
    """Draw a video; return the exit code, 130 after an interruption.

    Raises:
        UserError, OSError: the config, the model, the input or the output cannot be used.
    """
    source = open_source(args.video_input, "skip" if args.skip_damaged else "stop")
    options = drawing(args)
    predictor = VideoPredictor(
        setup_config(args),
        array_format="RGB",
        window=args.window,
        score_threshold=options["score_threshold"],
        max_overlap=0.6,  # one name on an object
    )
    demo = Demo(predictor, **options)
    # SIGTERM ends as Ctrl-C does.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        drawn = demo.draw_video(source, args.output, save_json=args.save_json, progress=True)
    finally:
        signal.signal(signal.SIGTERM, previous)
    rate = drawn.frames / max(drawn.seconds, 1e-9)
    state = "interrupted: " if drawn.interrupted else ""
    files = ", ".join(map(str, drawn.paths)) or "nothing written"
    print(f"{state}{drawn.frames} frames drawn ({rate:.1f} frames/s): {files}")
    if drawn.error is not None:
        raise drawn.error
    return 130 if drawn.interrupted else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code: 0, 1 where images were left out, 2 after an error."""
    args = parse_args(argv)
    logger = setup_logger(name="mask2former", abbrev_name="m2f")
    logger.info("%s", describe_threads())
    try:
        with interruptible("demo.py"):
            return run_video(args) if args.video_input else run_images(args)
    except SHOWN as error:
        if os.environ.get("MASK2FORMER_DEBUG"):
            raise
        print(f"demo.py: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
