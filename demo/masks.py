"""What --masks adds to the demo: masks from a file, from the ground truth or from SAM get names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from mask2former.formats.mask_files import LabelMasks, MaskFile, find_mask_file
from mask2former.modeling.mask_classifier import SamPrompts
from mask2former.predict.masks import MaskPredictor

SAM, TRUTH = "sam", "ground-truth"
DEFAULTS = SamPrompts()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --masks and what belongs to it."""
    group = parser.add_argument_group(
        "names for given masks", "for a config of a MaskClassifier; writes instances.json, too"
    )
    group.add_argument(
        "--masks",
        metavar="SOURCE",
        help=f"a COCO json or a PNG of labels; a folder with one of them for each image; {SAM!r}; "
        f"or {TRUTH!r}, that of --dataset",
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
        default=(DEFAULTS.min_iou, DEFAULTS.min_stability),
        metavar=("IOU", "STABILITY"),
        help="least of both that a mask of the grid needs, 0 to 1 "
        f"(default {DEFAULTS.min_iou} {DEFAULTS.min_stability})",
    )


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program where the options do not go together; fills in what --masks implies."""
    prompts = args.points or args.boxes
    if args.masks != SAM and (prompts or args.sam_weights):
        parser.error(f"--points, --boxes and --sam-weights belong to --masks {SAM}")
    if args.masks == TRUTH and not args.dataset:
        parser.error(f"--masks {TRUTH} takes the masks of --dataset, which is missing")
    if args.masks and args.video_input:
        parser.error("--masks names masks of images, not of --video-input")
    if args.masks:
        args.save_json = True
        args.draw = args.draw or "instance"


def numbers(text: str) -> tuple[float, ...]:
    """The numbers of a point or box, from text such as 12,30.5."""
    return tuple(float(part) for part in text.split(","))


class MaskNaming:
    """A predictor for masks from where --masks says.

    Args:
        args: the options.
        cfg: of a MaskClassifier.

    Raises:
        ValueError, OSError, ImportError: SAM's weights, the model or the file cannot be used.
    """

    def __init__(self, args: argparse.Namespace, cfg: CfgNode):
        self.source = args.masks
        self.prompts: SamPrompts | None = None
        self.files: dict[str, MaskFile] = {}
        if self.source == SAM:
            if not args.sam_weights and not cfg.MODEL.SAM.WEIGHTS:
                raise ValueError(f"--masks {SAM} needs --sam-weights, a folder of SAM's weights")
            min_iou, min_stability = args.sam_thresholds
            self.prompts = SamPrompts(args.points, args.boxes, args.grid, min_iou, min_stability)
        folder = (args.sam_weights or cfg.MODEL.SAM.WEIGHTS) if self.prompts else None
        self.predictor = MaskPredictor(cfg, array_format="RGB", sam=folder)

    def predict(
        self,
        file: str,
        image: np.ndarray,
        record: Mapping[str, Any] | None,
        truth: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Names the masks of one image.

        Args:
            file: of the image.
            image: (H, W, 3), uint8, RGB.
            record: what the data set says about it, if anything.
            truth: its ground truth, which may be empty; see `ground_truth`.

        Raises:
            ValueError, OSError: masks that are missing, damaged or of another size; prompts outside
                of the image.
        """
        if self.prompts:
            return self.predictor(image, prompts=self.prompts)
        if self.source == TRUTH:
            return self.predictor(image, true_masks(file, truth))
        path = str(find_mask_file(self.source, file))
        if path not in self.files:
            self.files = {path: MaskFile(path)}  # a folder has another one for the next image
        image_id = record.get("image_id") if record else None
        masks, scores = self.files[path].of_image(file, image.shape[:2], image_id)
        return self.predictor(image, masks, scores=scores)


def true_masks(file: str, truth: Mapping[str, Any]) -> Any:
    """The masks of the ground truth: its segments, or else its instances.

    Raises:
        ValueError: there is neither.
    """
    if "panoptic_seg" in truth:
        return LabelMasks(truth["panoptic_seg"][0].numpy())
    if "instances" in truth:
        return truth["instances"].pred_masks
    raise ValueError(f"the data set has no masks for {file}")
