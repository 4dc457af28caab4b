"""Memory, speed and ids over a long video: `python -m benchmarks.long_video --weights model.pth`.

A clip of the shapes video dataset runs back and forth, for as long as asked, in frames of 640x360
pixels. Each length is read, segmented and drawn by `demo/demo.py`'s way in a process of its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util

from mask2former.formats.images import read_image
from mask2former.formats.video.reading import Frame, open_source
from mask2former.formats.video.writing import open_writer

ROOT = Path(__file__).resolve().parent.parent
CONFIG = "configs/shapes/video/maskformer2_lite0.yaml"
SIZE = (360, 640)
_MARGIN = (SIZE[1] - SIZE[0]) // 2  # of mirrored pixels, left and right


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_video", description=__doc__)
    parser.add_argument("--config-file", default=CONFIG)
    parser.add_argument("--weights", default="", help="'' for random ones")
    parser.add_argument("--frames", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--score-threshold", type=float, default=0.3)
    parser.add_argument("--video", type=int, default=0, help="index of the clip in the dataset")
    parser.add_argument("--run", nargs=2, metavar=("IN", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... of the config")
    return parser.parse_args()


def load_clip(index: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return frames (360, 640, 3) of a validation clip, and masks (T, 360, 640) of what is always
    seen."""
    folder = Path(os.environ.get("DETECTRON2_DATASETS", ROOT / "datasets"), "shapes_video")
    content = json.loads((folder / "val.json").read_text())
    video = content["videos"][index]
    names = [str(folder / "val" / "JPEGImages" / name) for name in video["file_names"]]
    frames = [enlarge(read_image(name), cv2.INTER_LINEAR, cv2.BORDER_REFLECT) for name in names]
    tracks = [a for a in content["annotations"] if a["video_id"] == video["id"]]
    masks = [
        np.stack([enlarge(mask_util.decode(rle), cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
                  for rle in track["segmentations"]]).astype(bool)
        for track in tracks
        if None not in track["segmentations"]
    ]  # fmt: skip
    return frames, masks


def enlarge(image: np.ndarray, interpolation: int, border: int) -> np.ndarray:
    """Return a square image in the middle of a frame."""
    image = cv2.resize(image, (SIZE[0], SIZE[0]), interpolation=interpolation)
    return cv2.copyMakeBorder(image, 0, 0, _MARGIN, _MARGIN, border)


def frame_indices(length: int, frames: int) -> Iterator[int]:
    """Return the indices of `length` frames, back and forth."""
    cycle = [*range(length), *range(length - 2, 0, -1)]
    return (cycle[t % len(cycle)] for t in range(frames))


def write_video(path: Path, clip: list[np.ndarray], frames: int) -> None:
    """Write the long video."""
    writer = open_writer(path, Fraction(25))
    for t, index in enumerate(frame_indices(len(clip), frames)):
        writer.write(clip[index], Frame(clip[index], t / 25, ""))
    writer.close()


def run(args: argparse.Namespace) -> None:
    """Draw one video and print what it took; in a process of its own."""
    from mask2former.config import load_config
    from mask2former.predict import Demo, VideoPredictor

    cfg = load_config(args.config_file, args.opts)
    threshold = args.score_threshold if args.weights else 0.0
    settings: dict[str, Any] = {"window": args.window, "score_threshold": threshold}
    predictor = VideoPredictor(cfg, args.weights, array_format="RGB", **settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    drawn = Demo(predictor).draw_video(open_source(args.run[0]), args.run[1], save_json=True)
    if drawn.error:
        raise drawn.error
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"frames": drawn.frames, "seconds": drawn.seconds, "peak": peak, "before": before}
    print(json.dumps(found))


def count_ids(tracks: Path, masks: list[np.ndarray], frames: int) -> list[Counter]:
    """Return for each object the ids of the tracks that lie on it (IoU above a half), by frames."""
    entries: dict[int, list[dict]] = {}
    for entry in json.loads(tracks.read_text()):
        entries.setdefault(entry["frame"], []).append(entry)
    ids = [Counter() for _ in masks]
    for t, index in enumerate(frame_indices(len(masks[0]), frames) if masks else ()):
        for counter, mask in zip(ids, masks):
            for entry in entries.get(t, ()):
                found = mask_util.decode(entry["segmentation"]).astype(bool)
                if (found & mask[index]).sum() > 0.5 * (found | mask[index]).sum():
                    counter[entry["track_id"]] += 1
    return ids


def main() -> None:
    """Measure each length and compare with the first."""
    args = parse()
    if args.run:
        run(args)
        return
    clip, masks = load_clip(args.video)
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for frames in args.frames:
            source, drawn = Path(folder, f"{frames}.mp4"), Path(folder, f"{frames}_drawn.mp4")
            write_video(source, clip, frames)
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.long_video", *sys.argv[1:]]
            index = len(command) - len(args.opts)
            command[index:index] = ["--run", str(source), str(drawn)]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            first = first or found["peak"]
            print(
                f"{frames} frames: peak {found['peak'] / 1024:.0f} MB "
                f"({found['peak'] / first - 1:+.1%}), {found['before'] / 1024:.0f} MB before the "
                f"first frame; {found['frames'] / found['seconds']:.1f} frames/s"
            )
            for i, ids in enumerate(count_ids(drawn.with_suffix(".json"), masks, frames)):
                print(f"  object {i}, in view all along: ids {dict(ids.most_common(4))}")


if __name__ == "__main__":
    main()
