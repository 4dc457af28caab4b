#!/usr/bin/env python
"""The whole way on data that it makes itself: draw a data set, train, evaluate, look.

Run by `make demo`. Interrupted, it goes on where it stopped; finished, it evaluates and draws
again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "configs/shapes/panoptic/maskformer2_lite0.yaml"
DATASET = "shapes_val_panoptic"


def step(title: str, *command: str) -> float:
    """Run one command with a heading; ends the script where it fails. Returns seconds."""
    print(f"\n=== {title}\n    {' '.join(command)}", flush=True)
    start = time.monotonic()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return time.monotonic() - start


def print_metrics(results: Path) -> None:
    """Print the main figure of each task from the evaluation's json file."""
    found = json.loads(results.read_text(encoding="utf-8"))["results"]
    rows = [
        ("panoptic", "PQ", found["panoptic_seg"]["PQ"]),
        ("instance", "AP", found["segm"]["AP"]),
        ("semantic", "mIoU", found["sem_seg"]["mIoU"]),
    ]
    print(f"\n{'task':<10} {'metric':<6} {'value':>6}")
    for task, metric, value in rows:
        print(f"{task:<10} {metric:<6} {value:6.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="output/demo", help="folder for model and pictures")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... of the config")
    args = parser.parse_args()
    output = Path(args.output).resolve()
    data = os.environ.setdefault("DETECTRON2_DATASETS", str(ROOT / "datasets"))

    step("1/3  Drawing a data set", "datasets/prepare_shapes.py", "--output", data, "--seed", "1")
    options = ["OUTPUT_DIR", str(output), *args.opts]
    seconds = step(
        "2/3  Training and evaluating",
        "train_net.py",
        "--config-file",
        CONFIG,
        "--resume",
        *options,
    )
    print(f"\ntrained and evaluated in {seconds / 60:.1f} minutes")
    pictures = output / "pictures"
    weights = ["MODEL.WEIGHTS", str(output / "model_final.pth")]
    command = ["--config-file", CONFIG, "--dataset", DATASET, "--max-images", "24"]
    step(
        "3/3  Drawing predictions",
        "demo/demo.py",
        *command,
        "--output",
        str(pictures),
        "--opts",
        *weights,
    )
    print_metrics(output / "inference" / "results.json")
    print(f"\nPictures beside the ground truth: {pictures / 'index.html'}")


if __name__ == "__main__":
    main()
