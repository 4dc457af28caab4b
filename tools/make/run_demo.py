#!/usr/bin/env python
"""Draw a dataset, train on it, evaluate, and draw results.

Run by `make demo`. Interrupted, it goes on where it stopped; finished, it evaluates and draws
again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/shapes/panoptic/maskformer2_lite0_pilots.yaml"
DATASET = "shapes_val_panoptic"
METRICS = (("panoptic_seg", "PQ"), ("segm", "AP"), ("sem_seg", "mIoU"))  # by key of the results


def step(title: str, *command: str) -> float:
    """Run a script with a heading; ends this one where it fails. Returns seconds."""
    print(f"\n=== {title}\n    {' '.join(command)}", flush=True)
    start = time.monotonic()
    try:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, check=False)
    except KeyboardInterrupt:
        sys.exit("\ninterrupted; the same command goes on from here")
    if done.returncode:
        sys.exit(done.returncode)
    return time.monotonic() - start


def print_metrics(results: Path) -> None:
    """Print the main figure of each task from the evaluation's json file."""
    found = json.loads(results.read_text(encoding="utf-8"))["results"]
    print(f"\n{'task':<12} {'metric':<6} {'value':>6}")
    for task, metric in METRICS:
        if task in found:
            print(f"{task:<12} {metric:<6} {found[task][metric]:6.1f}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="output/demo", help="folder for model and pictures")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... of the config")
    args = parser.parse_args(argv)
    output = Path(args.output).resolve()
    pictures = output / "pictures"
    data = os.environ.setdefault("DETECTRON2_DATASETS", str(ROOT / "datasets"))
    config = ("--config-file", CONFIG)

    step("1/3  Drawing a dataset", "datasets/prepare_shapes.py", "--output", data)
    training = (*config, "--resume", *args.opts, "OUTPUT_DIR", str(output))
    seconds = step("2/3  Training and evaluating", "train_net.py", *training)
    print(f"\ntrained and evaluated in {seconds / 60:.1f} minutes")
    drawing = ("--dataset", DATASET, "--max-images", "24", "--output", str(pictures))
    weights = ("--opts", *args.opts, "MODEL.WEIGHTS", str(output / "model_final.pth"))
    step("3/3  Drawing predictions", "demo/demo.py", *config, *drawing, *weights)
    print_metrics(output / "inference" / "results.json")
    print(f"\nReport of the training: {output / 'report.html'}")
    print(f"Pictures beside the ground truth: {pictures / 'index.html'}")


if __name__ == "__main__":
    main()
