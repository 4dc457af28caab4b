"""A tiny model and a few images that the tests of the job share."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image

from mask2former.predict.configs import predict_config
from mask2former.predict.job.settings import Settings

CONFIGS = Path(__file__).resolve().parents[3] / "configs/shapes"
OPTIONS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.TIMM.PRETRAINED": "",
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 2,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 16,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 6,
    "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.0,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 128,
    "TEST.DETECTIONS_PER_IMAGE": 4,
}
WORDS = [str(word) for pair in OPTIONS.items() for word in pair]
PANOPTIC = CONFIGS / "panoptic/maskformer2_lite0.yaml"
VIDEO = CONFIGS / "video/maskformer2_lite0.yaml"
SIZES = ((32, 40), (40, 32), (32, 40), (20, 60), (32, 40), (33, 33), (32, 40))  # H, W


def config(path: Path = PANOPTIC, *more: Any) -> CfgNode:
    return predict_config(path, [*WORDS, *map(str, more)])


def settings(output: Path, **more: Any) -> Settings:
    """Settings of a job that keeps every instance, in shards of three images."""
    values = {"outputs": ("instances", "panoptic", "labels"), "score_threshold": 0.0}
    values |= {"shard_size": 3, "batch": 2, "lease_seconds": 2.0, "cfg": config()}
    return Settings(output=output, **(values | more))


def write_photos(folder: Path, count: int = len(SIZES)) -> list[str]:
    """Write images of several sizes; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    paths = []
    for i in range(count):
        small = random.integers(0, 256, (4, 4, 3), np.uint8)
        size = SIZES[i % len(SIZES)][::-1]
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.png")
        paths.append(str(folder / f"{i}.png"))
    return paths


def contents(output: Path) -> dict[str, Any]:
    """Return what a job has written, by file; json as values."""
    found = {}
    for path in sorted(output.rglob("*")):
        name = str(path.relative_to(output))
        if path.is_file() and not name.startswith("job/"):
            json_like = path.suffix == ".json"
            found[name] = json.loads(path.read_text()) if json_like else path.read_bytes()
    return found


def leftovers(output: Path) -> list[str]:
    """Return the temporary files of a job."""
    kept = {"job.json", "manifest.jsonl", "finished.json", "shards", "parts", "leases"}
    names = [p.name for p in (output / "job").iterdir() if p.name not in kept]
    names += [p.name for name in ("parts", "leases") for p in (output / "job" / name).iterdir()]
    return names + [str(p) for p in output.rglob(".*")]


torch.set_num_threads(1)
