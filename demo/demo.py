#!/usr/bin/env python
"""Draws what a model sees: in images, as pictures on a page side by side, and in video.

    python demo/demo.py --config-file CONFIG --input photo.jpg folder 'more/*.png' --output drawn \\
        --opts MODEL.WEIGHTS model_final.pth
    python demo/demo.py --config-file CONFIG --dataset shapes_val_panoptic --output drawn
    python demo/demo.py --config-file CONFIG --input photo.jpg --masks masks.json --output drawn
    python demo/demo.py --config-file CONFIG --video-input clip.mp4 --output drawn.mp4
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Used by fvcore and detectron2, in part while they are imported, which is why this comes first.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
# ruff: noqa: E402

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from mask2former.config import load_config
from mask2former.data import register_custom
from mask2former.engine.defaults import check_dataset
from mask2former.formats.images import find_images, read_image
from mask2former.formats.video_reading import open_source
from mask2former.predict.image import Predictor
from mask2former.predict.result_files import PredictionFiles
from mask2former.predict.video import VideoPredictor
from mask2former.predict.video_drawing import draw_video_file
from mask2former.visualization import (
    KINDS,
    ContactSheet,
    choose_kind,
    draw,
    ground_truth,
    has_kind,
    semantic_labels,
)

if __package__:
    from . import masks
else:  # run as a script
    import masks


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
        "segments (default: the config's), least share of a pixel's best class (default 0)",
    )
    parser.add_argument("--draw", choices=KINDS, help="which output; the richest by default")
    parser.add_argument(
        "--dataset",
        help="a registered data set: its ground truth is drawn beside; without "
        "--input its images are taken",
    )
    parser.add_argument("--max-images", type=int, help="stop after so many")
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
    masks.add_arguments(parser)
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
    if args.confidence_threshold is not None and not 0 <= args.confidence_threshold <= 1:
        parser.error(f"--confidence-threshold is in 0 to 1, got {args.confidence_threshold}")
    masks.check_arguments(parser, args)
    return args


def load_records(dataset: str | None) -> dict[str, dict[str, Any]]:
    """Records of a data set by the path of their image, resolved.

    Raises:
        ValueError, OSError: it is not registered, or its files are missing or damaged.
    """
    if not dataset:
        return {}
    try:
        check_dataset(dataset)
    except ValueError as error:
        raise ValueError(f"--dataset: {error}") from error
    return {resolved(record["file_name"]): record for record in DatasetCatalog.get(dataset)}


def resolved(file: str) -> str:
    return str(Path(file).resolve())


def setup_config(args: argparse.Namespace) -> CfgNode:
    """The config of the model; registers the data sets of one's own that it names."""
    cfg = load_config(args.config_file, args.opts)
    register_custom(cfg)
    if args.confidence_threshold is not None:  # of panoptic segments
        cfg.MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD = args.confidence_threshold
    cfg.freeze()
    return cfg


class Demo:
    """Predicts, draws and collects, one image at a time.

    Raises:
        ValueError, OSError: the config, the model, an input or the output folder cannot be used.
    """

    def __init__(self, args: argparse.Namespace):
        self.args = args
        cfg = setup_config(args)
        self.records = load_records(args.dataset)
        self.images = find_images(args.input) or [r["file_name"] for r in self.records.values()]
        self.images = self.images[: args.max_images]
        columns = ["Input", "Prediction"] + (["Ground truth"] if args.dataset else [])
        self.sheet = ContactSheet(args.output, "Mask2Former", columns)
        self.naming = masks.MaskNaming(args, cfg) if args.masks else None
        self.predictor = self.naming.predictor if self.naming else Predictor(cfg, None, None, "RGB")
        self.metadata = self.predictor.metadata
        self.files = PredictionFiles(args.output, self.metadata) if args.save_json else None
        # Results are scored by the data set's ids, which images from elsewhere lack.
        self.with_ids = all("image_id" in (self.record(file) or {}) for file in self.images)

    def record(self, file: str) -> dict[str, Any] | None:
        """What the data set says about an image."""
        return self.records.get(resolved(file))

    def threshold(self, kind: str) -> float:
        """What the threshold option means for a kind of result."""
        if self.args.confidence_threshold is not None:
            return self.args.confidence_threshold
        return 0.5 if kind == "instance" else 0.0

    def read(self, file: str) -> tuple[np.ndarray, dict[str, Any]]:
        """The image (H, W, 3), RGB, and its ground truth, which may be empty.

        Raises:
            ValueError, OSError: the image, or its annotations, cannot be read.
        """
        image, record = read_image(file, "RGB"), self.record(file)
        if record is None:
            return image, {}
        metadata = MetadataCatalog.get(self.args.dataset)
        return image, ground_truth(record, metadata, image.shape[:2])

    def predict(self, file: str, image: np.ndarray, truth: dict[str, Any]) -> dict[str, Any]:
        """What the model says of one image; raises as `read` for masks that cannot be used."""
        if self.naming:
            return self.naming.predict(file, image, self.record(file), truth)
        return self.predictor(image)

    def show(
        self, file: str, image: np.ndarray, truth: dict[str, Any], prediction: dict[str, Any]
    ) -> None:
        """Draw one image, and its ground truth: of the same kind if there is one."""
        kind = choose_kind(prediction, self.args.draw)
        pictures = {
            "Input": image,
            "Prediction": draw(image, prediction, self.metadata, kind, self.threshold(kind)),
        }
        if truth:
            metadata = MetadataCatalog.get(self.args.dataset)
            true_kind = kind if has_kind(truth, kind) else None
            pictures["Ground truth"] = draw(image, truth, metadata, true_kind)
        self.sheet.add(Path(file).stem, pictures)
        if self.files:
            self.collect(file, prediction)

    def collect(self, file: str, prediction: dict[str, Any]) -> None:
        """Keep the results of one image for the json files."""
        labels = None
        if "sem_seg" in prediction:
            labels = semantic_labels(prediction["sem_seg"], self.threshold("semantic")).numpy()
        image_id = self.record(file)["image_id"] if self.with_ids else None
        self.files.add(file, prediction, labels, self.threshold("instance"), image_id)

    def run(self) -> int:
        """Go through all images; returns how many could not be read."""
        failed = 0
        for file in tqdm(self.images, unit="image", disable=None):
            try:
                image, truth = self.read(file)
                prediction = self.predict(file, image, truth)
            except (OSError, ValueError) as error:
                tqdm.write(f"demo.py: left out {file}: {error}", file=sys.stderr)
                failed += 1
            else:
                self.show(file, image, truth, prediction)
        weights = self.predictor.cfg.MODEL.WEIGHTS or "random weights"
        page = self.sheet.write(f"{self.args.config_file}, {weights}")
        if self.files:
            for path in self.files.write():
                print(f"results: {path}")
        print(f"{len(self.images) - failed} of {len(self.images)} images drawn: {page}")
        return failed


def run_video(args: argparse.Namespace) -> int:
    """Draws a video; returns the exit code, 130 after an interruption.

    Raises:
        ValueError, OSError: the config, the model, the input or the output cannot be used.
    """
    source = open_source(args.video_input, "skip" if args.skip_damaged else "stop")
    wanted = args.confidence_threshold
    predictor = VideoPredictor(
        setup_config(args),
        array_format="RGB",
        window=args.window,
        score_threshold=0.5 if wanted is None else wanted,
        max_overlap=0.6,  # one name on an object
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    drawn = draw_video_file(
        predictor,
        source,
        args.output,
        kind=args.draw,
        label_threshold=wanted or 0.0,
        save_json=args.save_json,
    )
    rate = drawn.frames / max(drawn.seconds, 1e-9)
    state = "interrupted: " if drawn.interrupted else ""
    files = ", ".join(map(str, drawn.paths)) or "nothing written"
    print(f"{state}{drawn.frames} frames drawn ({rate:.1f} frames/s): {files}")
    if drawn.error is not None:
        raise drawn.error
    return 130 if drawn.interrupted else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 where images were left out, 2 after an error."""
    args = parse_args(argv)
    setup_logger(name="mask2former", abbrev_name="m2f")
    try:
        if args.video_input:
            return run_video(args)
        return 1 if Demo(args).run() else 0
    except (OSError, ValueError, ImportError) as error:
        if os.environ.get("MASK2FORMER_DEBUG"):
            raise
        print(f"demo.py: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
