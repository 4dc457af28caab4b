"""What --masks adds to the demo: masks from a file, from the ground truth or from SAM get names."""

import argparse

from detectron2.config import CfgNode

from mask2former.modeling.mask_classifier import SamPrompts
from mask2former.predict import GROUND_TRUTH, MaskPredictor, MaskSource

SAM = "sam"
DEFAULTS = SamPrompts()
THRESHOLDS = (DEFAULTS.min_iou, DEFAULTS.min_stability)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --masks and what belongs to it."""
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
        default=DEFAULTS.grid,
        help=f"without points and boxes: points along a side (default {DEFAULTS.grid})",
    )
    group.add_argument(
        "--sam-thresholds",
        nargs=2,
        type=float,
        default=THRESHOLDS,
        metavar=("IOU", "STABILITY"),
        help="minimum of both for a mask of the grid, 0 to 1 (default {} {})".format(*THRESHOLDS),
    )


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
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


def build_predictor(args: argparse.Namespace, cfg: CfgNode) -> tuple[MaskPredictor, MaskSource]:
    """Build the predictor and say where its masks come from.

    Raises:
        ValueError, OSError, ImportError: SAM's weights, the model or the prompts cannot be used.
    """
    if args.masks != SAM:
        return MaskPredictor(cfg, array_format="RGB"), MaskSource(args.masks)
    folder = args.sam_weights or cfg.MODEL.SAM.WEIGHTS
    if not folder:
        raise ValueError(f"--masks {SAM} needs --sam-weights, a folder of SAM's weights")
    prompts = SamPrompts(args.points, args.boxes, args.grid, *args.sam_thresholds)
    return MaskPredictor(cfg, array_format="RGB", sam=folder), MaskSource(prompts)
