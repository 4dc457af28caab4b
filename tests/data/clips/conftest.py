"""A video and a photo with annotations, and the mapper that the tests of clips are about."""
# ruff: noqa: NPY002 (detectron2 draws from NumPy's global generator)

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from mask2former.data.clips import ClipMapper

H, W, LENGTH = 24, 36, 6
SIDE = [[4.0, 6.0, 12.0, 6.0, 12.0, 14.0, 4.0, 14.0]]  # x 4 to 12, y 6 to 14
K = 3


def rle(mask: np.ndarray) -> dict[str, Any]:
    return mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))


def make_track(i: int, category: int, masks: Sequence[Any], iscrowd: int = 0) -> dict[str, Any]:
    return {"id": i, "category_id": category, "iscrowd": iscrowd, "segmentations": list(masks)}


def make_mapper(frames: int = 3, chain=(), **settings: Any) -> ClipMapper:
    return ClipMapper(
        augmentations=chain,
        image_format="RGB",
        sampling_frame_num=frames,
        **({"sampling_frame_range": 3, "num_classes": K} | settings),
    )


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)


def times_of(clip: dict[str, Any]) -> list[int]:
    return [int(Path(name).stem) for name in clip["file_names"]]


@pytest.fixture
def video(tmp_path: Path) -> dict[str, Any]:
    """6 frames; object 11 in all, 12 in frame 2 alone, 13 is crowd, 14 is in none."""
    names = []
    for i in range(LENGTH):
        names.append(str(tmp_path / f"{i}.png"))
        y, x = np.mgrid[:H, :W]
        frame = np.stack([x * 5 + i, y * 8 + i, np.full_like(x, 30 * i)], 2)
        Image.fromarray(frame.astype(np.uint8)).save(names[-1])
    mask = np.zeros((H, W), bool)
    mask[10:20, 20:30] = True
    annotations = [
        make_track(11, 0, [SIDE] * LENGTH),
        make_track(12, 2, [None, None, rle(mask), None, None, None]),
        make_track(13, 1, [SIDE] * LENGTH, iscrowd=1),
        make_track(14, 1, [None] * LENGTH),
    ]
    record = {"file_names": names, "height": H, "width": W, "length": LENGTH, "video_id": 5}
    return record | {"annotations": annotations}


@pytest.fixture
def photo(tmp_path: Path) -> dict[str, Any]:
    y, x = np.mgrid[:H, :W]
    Image.fromarray(np.stack([x * 5, y * 8, x + y], 2).astype(np.uint8)).save(tmp_path / "a.png")
    annotations = [
        {"id": 21, "category_id": 2, "segmentation": SIDE, "iscrowd": 0},
        {"id": 22, "category_id": 1, "segmentation": rle(x > 20), "iscrowd": 0},
        {"id": 23, "category_id": 1, "segmentation": SIDE, "iscrowd": 1},
    ]
    path = str(tmp_path / "a.png")
    record = {"file_name": path, "height": H, "width": W, "image_id": 9}
    return record | {"annotations": annotations}
