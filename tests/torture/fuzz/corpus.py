"""Small sound files of every form that is read, made once."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from mask2former.checkpoints.storage.weights_io import save_weights
from mask2former.classes import Classes
from mask2former.config import get_config
from mask2former.data import register
from mask2former.formats import rle
from mask2former.formats.label_maps import write_panoptic_png
from mask2former.formats.video.reading import Frame
from mask2former.formats.video.writing import open_writer
from mask2former.runtime import metadata
from tests.torture.fuzz.mutations import pack

H, W = 16, 20
CATEGORIES = [
    {"id": 1, "name": "cat", "isthing": 1, "color": [1, 2, 3]},
    {"id": 7, "name": "sky", "isthing": 0, "color": [9, 9, 9]},
]
MASK = np.zeros((H, W), np.uint8)
MASK[3:9, 4:12] = 1
RLE = rle.encode_masks(MASK[None])[0]
RUNS = {"size": [H, W], "counts": rle.run_lengths(RLE, H, W).tolist()}
POLYGON = [2.0, 2.0, 9.5, 2.0, 9.0, 12.0, 2.0, 11.0]

SOUND: dict[str, Any] = {}  # the files, made once, as bytes
YAML = b"""\
_BASE_: base.yaml
VERSION: 2
MODEL:
  META_ARCHITECTURE: MaskFormer
  WEIGHTS: "a.pkl"
  PIXEL_MEAN: [123.675, 116.280, 103.530]
  SEM_SEG_HEAD:
    NUM_CLASSES: 133
    COMMON_STRIDE: 4
  MASK_FORMER:
    CLASS_WEIGHT: 2.0
    TEST: {PANOPTIC_ON: true, OVERLAP_THRESHOLD: 0.8}
DATASETS:
  TRAIN: ("coco_2017_train_panoptic",)
  CUSTOM: [{name: mine, task: instance, classes: [a, b]}]
SOLVER: {STEPS: !!python/tuple [327778, 355092], BASE_LR: 1e-4}
INPUT:
  MIN_SIZE_TRAIN: !!python/object/apply:eval ["[int(x * 0.1 * 1024) for x in range(5, 21)]"]
"""
HUB = (
    {
        "model_type": "mask2former",
        "id2label": {"0": "a", "1": "b"},
        "backbone_config": {
            **{
                "model_type": "resnet",
                "depths": [3, 4, 6, 3],
                "hidden_sizes": [256, 512, 1024, 2048],
            },
            **{
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
                "layer_type": "bottleneck",
            },
        },
        **{"feature_size": 256, "hidden_dim": 256, "num_queries": 100, "mask_feature_size": 256},
        **{"decoder_layers": 10, "encoder_layers": 6, "class_weight": 2.0, "no_object_weight": 0.1},
    },
    {
        **{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.2, 0.2, 0.2], "size_divisor": 32},
        "size": {"shortest_edge": 800, "longest_edge": 1333},
    },
)


def make_sound_files(folder: Path) -> None:
    """Write what subjects need to find, and read each form once, so that all is imported."""
    SOUND["folder"] = folder
    rng = np.random.default_rng(0)
    for i in (1, 2):
        cv2.imwrite(str(folder / f"{i}.jpg"), rng.integers(0, 255, (H, W, 3), np.uint8))
        write_panoptic_png(folder / f"{i}.png", MASK + 1 + np.int64(256 * i))
    (folder / "maps").mkdir()
    (folder / "photos").mkdir()
    cv2.imwrite(str(folder / "maps" / "1.png"), MASK)
    (folder / "photos" / "1.jpg").write_bytes((folder / "1.jpg").read_bytes())
    SOUND["semantic"] = f"torture_{folder.name}"
    register(
        SOUND["semantic"], "sem_seg", image_root=str(folder / "photos"),
        sem_seg_root=str(folder / "maps"), classes=["a", "b"],
    )  # fmt: skip
    for name in ("grey", "rgb", "palette", "deep"):
        picture(f"{name}.png")
    for suffix in (".jpg", ".bmp", ".tif", ".webp", ".gif"):
        picture(f"photo{suffix}")
    film()
    for name in ("a.safetensors", *(f"{i}.pkl" for i in range(6)), "zip.pth", "legacy.pth"):
        weights_file(name)
    onnx_file()
    config()


def panoptic_json(with_areas: bool) -> dict[str, Any]:
    def segments(i: int) -> list[dict[str, Any]]:
        areas = ({"area": H * W - 48}, {"area": 48}) if with_areas else ({}, {})
        pairs = zip((1, 2), (1, 7), areas)
        return [{"id": 256 * i + k, "category_id": c, "iscrowd": 0} | area for k, c, area in pairs]

    names = [{"image_id": i, "file_name": f"{i}.png", "segments_info": segments(i)} for i in (1, 2)]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": H, "width": W} for i in (1, 2)]
    return {"images": images, "categories": CATEGORIES, "annotations": names}


def video_json() -> dict[str, Any]:
    files = ["1.jpg", "2.jpg", "1.jpg"]
    track = {"video_id": 3, "iscrowd": 0, "areas": [48, None, 48.5]}
    track["bboxes"] = [[4, 3, 8, 6], None, [4, 3, 8, 6]]
    return {
        "videos": [{"id": 3, "file_names": files, "length": 3, "height": H, "width": W}],
        "categories": CATEGORIES,
        "annotations": [
            track | {"id": i, "category_id": c, "segmentations": [mask, None, mask]}
            for i, c, mask in ((1, 1, RLE), (2, 7, [POLYGON]), (3, 7, RUNS))
        ],
    }


def picture(name: str) -> bytes:
    if name not in SOUND:
        rgb = np.random.default_rng(1).integers(0, 255, (H, W, 3), np.uint8)
        image = Image.fromarray(rgb)
        image = {
            "grey.png": Image.fromarray(MASK),
            "palette.png": image.quantize(16),
            "deep.png": Image.fromarray(MASK.astype(np.uint16) * 300),
        }.get(name, image)
        exif = Image.Exif()
        exif[0x0112] = 6
        path = SOUND["folder"] / f"sound_{name}"
        image.save(path, **({"exif": exif} if name.endswith((".jpg", ".tif", ".webp")) else {}))
        SOUND[name] = path.read_bytes()
    return SOUND[name]


def film() -> bytes:
    if "film" not in SOUND:
        path = SOUND["folder"] / "sound.mp4"
        writer = open_writer(path, Fraction(10))
        for i in range(4):
            picture = np.full((32, 48, 3), 60 * i, np.uint8)
            writer.write(picture, Frame(picture, i / 10, f"frame {i}"))
        writer.close()
        SOUND["film"] = path.read_bytes()
    return SOUND["film"]


def weights_file(name: str) -> bytes:
    if name in SOUND:
        return SOUND[name]
    path = SOUND["folder"] / f"sound_{name}"
    weights = OrderedDict(
        w=torch.arange(12.0).reshape(3, 4).t(), half=torch.ones(5).half(), n=torch.tensor(7)
    )
    if name.endswith(".pkl"):
        value = {
            "model": {k: v.numpy() for k, v in weights.items()},
            **{
                "scalar": np.float32(0.5),
                "text": np.array(["a"]),
                "set": {1, 2},
                "t": weights["w"],
            },
        }
        path.write_bytes(pickle.dumps(value, int(name[0])))
    elif name.endswith(".safetensors"):
        save_weights(weights, path, "me", classes=Classes(("a", "b"), (0,)))
    else:
        content = {"model": weights, "iteration": 3, "twice": weights["w"]}
        torch.save(content, path, _use_new_zipfile_serialization=name.startswith("zip"))
    SOUND[name] = path.read_bytes()
    return SOUND[name]


def onnx_file() -> bytes:
    """Return a graph that says nothing, with metadata at the end."""
    if "onnx" not in SOUND:
        path = SOUND["folder"] / "sound.onnx"
        path.write_bytes(b"\x08\x08" + pack(7, b"\x12\x01g"))  # ir_version 8, a graph's name
        three = {"pixel_mean": (1.0, 2.0, 3.0), "pixel_std": (4.0, 5.0, 6.0)}
        sizes = {"size_divisibility": 32, "min_size": 40, "max_size": 64}
        classes = {"class_names": ("a", "b"), "thing_ids": (0,), "colors": ((1, 2, 3), (4, 5, 6))}
        values = {"kind": "image", "channel_order": "RGB", "thing_categories": ((7, 0),)}
        metadata.write(path, metadata.Metadata(**values, **classes, **three, **sizes))
        SOUND["onnx"] = path.read_bytes()
    return SOUND["onnx"]


def config() -> Any:
    if "config" not in SOUND:
        SOUND["config"] = get_config()
    return SOUND["config"].clone()
