#!/usr/bin/env python
"""Draws what a model sees in images: pictures, and a page that shows them side by side.

    python demo/demo.py --config-file CONFIG --input photo.jpg folder 'more/*.png' --output drawn \\
        --opts MODEL.WEIGHTS model_final.pth
    python demo/demo.py --config-file CONFIG --dataset shapes_val_panoptic --output drawn
"""

from __future__ import annotations

import argparse
import glob
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
from mask2former.data.images import read_image
from mask2former.engine.predictor import Predictor
from mask2former.evaluation.prediction_files import PredictionFiles
from mask2former.visualization import (
    KINDS,
    ContactSheet,
    choose_kind,
    draw,
    ground_truth,
    has_kind,
)
from mask2former.visualization.draw import semantic_labels

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="yaml file of the model")
    parser.add_argument("--input", nargs="+", default=[], help="files, folders or quoted globs")
    parser.add_argument("--output", required=True, help="folder for the pictures and index.html")
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
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... of the config, last"
    )
    args = parser.parse_args(argv)
    if not args.input and not args.dataset:
        parser.error("give --input, or --dataset to take its images")
    if args.confidence_threshold is not None and not 0 <= args.confidence_threshold <= 1:
        parser.error(f"--confidence-threshold is in 0 to 1, got {args.confidence_threshold}")
    return args


def find_images(inputs: Sequence[str]) -> list[str]:
    """Files that the inputs name, folders and globs in the order of their names.

    Raises:
        FileNotFoundError: an input names nothing.
    """
    found: list[str] = []
    for item in inputs:
        path = Path(item)
        if path.is_dir():
            names = sorted(str(p) for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        else:
            names = [item] if path.is_file() else sorted(glob.glob(item, recursive=True))
        if not names:
            raise FileNotFoundError(
                f"--input {item}: no such file, no folder with images "
                f"({', '.join(sorted(SUFFIXES))}) and no glob that matches any."
            )
        found += names
    return list(dict.fromkeys(found))


def setup_config(args: argparse.Namespace) -> CfgNode:
    cfg = load_config(args.config_file, args.opts)
    register_custom(cfg)
    if args.confidence_threshold is not None:  # of panoptic segments
        cfg.MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD = args.confidence_threshold
    cfg.freeze()
    return cfg


class Demo:
    """Predicts, draws and collects, one image at a time."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.records = self._records()
        self.images = find_images(args.input) or [r["file_name"] for r in self.records.values()]
        self.images = self.images[: args.max_images]
        columns = ["Input", "Prediction"] + (["Ground truth"] if args.dataset else [])
        self.sheet = ContactSheet(args.output, "Mask2Former", columns)
        self.predictor = Predictor(setup_config(args))
        self.metadata = self.predictor.metadata
        self.files = PredictionFiles(args.output, self.metadata) if args.save_json else None

    def _records(self) -> dict[str, dict[str, Any]]:
        """Records of the data set by the name of their file, resolved."""
        if not self.args.dataset:
            return {}
        register_custom(load_config(self.args.config_file, self.args.opts))
        if self.args.dataset not in DatasetCatalog:
            names = ", ".join(sorted(DatasetCatalog.list()))
            raise ValueError(f"--dataset {self.args.dataset} is not registered; there are: {names}")
        records = DatasetCatalog.get(self.args.dataset)
        return {str(Path(r["file_name"]).resolve()): r for r in records}

    def threshold(self, kind: str) -> float:
        """What the threshold option means for a kind of result."""
        if self.args.confidence_threshold is not None:
            return self.args.confidence_threshold
        return 0.5 if kind == "instance" else 0.0

    def show(self, file: str) -> None:
        """Predict and draw one image."""
        image = read_image(file, "RGB")
        prediction = self.predictor(file)
        kind = choose_kind(prediction, self.args.draw)
        pictures = {
            "Input": image,
            "Prediction": draw(image, prediction, self.metadata, kind, self.threshold(kind)),
        }
        record = self.records.get(str(Path(file).resolve()))
        if record is not None:
            pictures["Ground truth"] = self.draw_truth(image, record, kind)
        self.sheet.add(Path(file).stem, pictures)
        if self.files:
            labels = None
            if "sem_seg" in prediction:
                labels = semantic_labels(prediction["sem_seg"], self.threshold("semantic")).numpy()
            self.files.add(file, prediction, labels, self.threshold("instance"))

    def draw_truth(self, image: np.ndarray, record: dict[str, Any], kind: str) -> np.ndarray:
        """Draw the annotations of an image: of the kind wanted, or of what kind there are."""
        truth = ground_truth(record)
        metadata = MetadataCatalog.get(self.args.dataset)
        if not truth:
            return image
        return draw(image, truth, metadata, kind if has_kind(truth, kind) else None)

    def run(self) -> int:
        """Go through all images; returns how many could not be read."""
        failed = []
        for file in tqdm(self.images, unit="image", disable=None):
            try:
                self.show(file)
            except (OSError, ValueError) as error:
                tqdm.write(f"demo.py: left out {file}: {error}", file=sys.stderr)
                failed.append(file)
        weights = self.predictor.cfg.MODEL.WEIGHTS or "random weights"
        page = self.sheet.write(f"{self.args.config_file}, {weights}")
        if self.files:
            for path in self.files.write():
                print(f"results: {path}")
        print(f"{len(self.images) - len(failed)} of {len(self.images)} images drawn: {page}")
        return len(failed)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    setup_logger(name="mask2former", abbrev_name="m2f")
    try:
        return 1 if Demo(args).run() else 0
    except (OSError, ValueError, ImportError) as error:
        print(f"demo.py: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
