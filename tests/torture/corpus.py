"""Small sound files of every form that is read, how each is damaged, and what reads it.

A subject reads what it wrote in one way a user has: whatever comes of a damaged file, it is an
error that says so, or a result that can be worked with to the end.
"""

from __future__ import annotations

import json
import pickle
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from mask2former.annotations.readers.given_masks import MaskFile
from mask2former.annotations.readers.instances import read_instances
from mask2former.annotations.readers.panoptic import read_panoptic, read_segment_map
from mask2former.annotations.readers.videos import read_videos
from mask2former.annotations.repair import repaired_instances
from mask2former.checkpoints.bridges.huggingface_config import from_huggingface_config
from mask2former.checkpoints.storage.weights_io import load_weights, save_weights
from mask2former.classes import Classes
from mask2former.config import get_config
from mask2former.config.loading import merge_keys
from mask2former.config.yaml_reader import read_yaml
from mask2former.data.datasets.instances import count_objects, to_records
from mask2former.data.mappers import DatasetMapper
from mask2former.evaluation import coco_average_precision, evaluate_ytvis, pq_compute, semantic_pq
from mask2former.evaluation.panoptic.quality import PanopticQuality
from mask2former.formats import rle
from mask2former.formats.images import image_size, read_image
from mask2former.formats.json_files import read_json
from mask2former.formats.label_maps import read_labels, read_panoptic_png, write_panoptic_png
from mask2former.formats.segmentations import compress, draw_mask
from mask2former.formats.video.reading import open_source
from mask2former.formats.video.writing import open_writer
from tests.torture import mutations as m

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


@dataclass(frozen=True)
class Subject:
    """Something that reads files.

    Attributes:
        name: of the form, for the table.
        run: write a damaged file, whose name begins with a path, and read it.
        share: of all cases.
    """

    name: str
    run: Callable[[random.Random, Path], Any]
    share: float = 1.0


def instances(rng: random.Random, stem: Path) -> None:
    value = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "height": H, "width": W} for i in (1, 2)],
        "categories": CATEGORIES,
        "annotations": [
            {"id": i, "image_id": 1 + i % 2, "category_id": (1, 7)[i % 2], "iscrowd": 0, "area": 48}
            | {"bbox": [4, 3, 8, 6], "segmentation": mask}
            for i, mask in enumerate(([POLYGON], RLE, RUNS, [POLYGON, POLYGON[::-1]]))
        ],
    }
    path = _write_json(rng, stem, value)
    options = {"boxes_as_masks": rng.random() < 0.3, "find_files": rng.random() < 0.5}
    root = str(path.parent) if rng.random() < 0.7 else None
    need_masks = rng.random() < 0.8
    annotations = read_instances(path, root, **options, need_masks=need_masks)
    json.dumps([finding.as_json() for finding in annotations.findings])
    annotations.findings.raise_refused()
    if not need_masks:
        coco_average_precision(annotations, [], "bbox")
        return
    ids = {c["id"]: i for i, c in enumerate(annotations.categories)}
    records = to_records(annotations, ids, str(path.parent))
    count_objects(annotations, records, ids)
    for record in records:
        size = (record["height"], record["width"]) if "height" in record else None
        for i, entry in enumerate(record["annotations"] if size and max(size) < 5000 else ()):
            compress(entry["segmentation"], *size) if entry["segmentation"] else None
            draw_mask(entry, i, size)
    if rng.random() < 0.1:
        coco_average_precision(annotations, [], rng.choice(("bbox", "segm")))
        json.dumps(repaired_instances(annotations.content))
    if rng.random() < 0.1 and records:
        mapper = DatasetMapper(target="instance", augmentations=[], image_format="RGB")
        mapper(records[0])


def panoptic(rng: random.Random, stem: Path) -> None:
    path = _write_json(rng, stem, _panoptic_json(with_areas=True))
    root = str(path.parent)
    annotations = read_panoptic(
        path, root, root, names_in_json=rng.random() < 0.5, find_files=rng.random() < 0.5
    )
    json.dumps([finding.as_json() for finding in annotations.findings])
    annotations.findings.raise_refused()
    quality = PanopticQuality(annotations.categories)
    for entry in annotations.content["annotations"]:
        ids = read_segment_map(path.parent / entry["file_name"], entry["segments_info"])
        quality.add_image(ids, entry["segments_info"], ids, entry["segments_info"])
    quality.summary()


def videos(rng: random.Random, stem: Path) -> None:
    path = _write_json(rng, stem, _video_json())
    root = str(path.parent) if rng.random() < 0.7 else None
    annotations = read_videos(path, root, find_files=rng.random() < 0.5)
    json.dumps([finding.as_json() for finding in annotations.findings])
    annotations.findings.raise_refused()
    if rng.random() < 0.3:
        evaluate_ytvis(annotations, [])


def results_of_instances(rng: random.Random, stem: Path) -> None:
    truth = {
        "images": [{"id": 1, "height": H, "width": W}],
        "categories": CATEGORIES,
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": RLE}
        ],
    }
    entry = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [4, 3, 8, 6]}
    path = _write_json(rng, stem, [entry | {"segmentation": mask} for mask in (RLE, RUNS)])
    kind = rng.choice(("bbox", "segm", "boundary"))
    coco_average_precision(truth, read_json(path), kind)


def results_of_panoptic(rng: random.Random, stem: Path) -> None:
    path = _write_json(rng, stem, _panoptic_json(with_areas=False))
    truth = _written_once(path.parent / "truth_panoptic.json", _panoptic_json(with_areas=True))
    pq_compute(truth, path, path.parent, path.parent, num_workers=1)


def results_of_videos(rng: random.Random, stem: Path) -> None:
    entries = [
        {"video_id": 3, "category_id": 1, "score": 0.5, "segmentations": masks}
        for masks in ([RLE, None, RUNS], [[POLYGON], RLE, None])
    ]
    evaluate_ytvis(_video_json(), str(_write_json(rng, stem, entries)))


def results_of_semantic(rng: random.Random, stem: Path) -> None:
    entries = [
        {"file_name": str(stem.parent / "photos" / "1.jpg"), "category_id": k, "segmentation": RLE}
        for k in (0, 1)
    ]
    semantic_pq(_sound["semantic"], _write_json(rng, stem, entries))


def given_masks(rng: random.Random, stem: Path) -> None:
    masks: list[Any] = [{"segmentation": mask, "image_id": 1, "score": 0.9} for mask in (RLE, RUNS)]
    images = [{"id": 1, "file_name": "1.jpg", "height": H, "width": W}]
    value = rng.choice(
        (
            masks,
            [RLE, RUNS],
            {"annotations": masks, "images": images},
            {"annotations": masks}
            | {"image": {"image_id": 1, "file_name": "1.jpg", "height": H, "width": W}},
        )
    )
    file = MaskFile(_write_json(rng, stem, value))
    found, _ = file.of_image("1.jpg", (H, W), 1, missing_ok=rng.random() < 0.5)
    found[range(len(found))]


def run_lengths(rng: random.Random, stem: Path) -> None:
    value: Any = {"size": [H, W], "counts": rng.choice((RLE["counts"], RUNS["counts"]))}
    if rng.random() < 0.5 and isinstance(value["counts"], str):
        value["counts"] = m.damaged_text(rng, value["counts"])
    else:
        value = m.damaged_json(rng, value)
    if not isinstance(value, dict):
        return
    text = rle.as_text(value, H, W)
    mask = rle.decode(text)
    assert mask.shape == (H, W) and rle.area(text) == mask.sum()
    painted = np.zeros((H, W), bool)
    rle.paint(text, painted)
    assert (painted == mask).all() and len(rle.bounding_box(text)) == 4
    assert rle.run_lengths(text, H, W).sum() == H * W
    rle.decode(rle.concatenate_frames([rle.run_lengths(text, H, W), None], H, W))


def png(rng: random.Random, stem: Path) -> None:
    kind = rng.choice(("grey", "rgb", "palette", "deep"))
    path = _write(stem.with_suffix(".png"), m.damaged_png(rng, _picture(f"{kind}.png")))
    _read_one_image(rng, path)


def photo(rng: random.Random, stem: Path) -> None:
    suffix = rng.choice((".jpg", ".jpg", ".bmp", ".tif", ".webp", ".gif"))
    data = m.damaged_bytes(rng, _picture(f"photo{suffix}"))
    _read_one_image(rng, _write(stem.with_suffix(suffix), data))


def film(rng: random.Random, stem: Path) -> None:
    path = _write(stem.with_suffix(".mp4"), m.damaged_bytes(rng, _film()))
    for number, _ in enumerate(open_source(path, rng.choice(("stop", "skip")))):
        if number > 20:
            break


def safetensors(rng: random.Random, stem: Path) -> None:
    data = m.damaged_safetensors(rng, _weights_file("a.safetensors"))
    _use_weights(_write(stem.with_suffix(".safetensors"), data))


def plain_pickle(rng: random.Random, stem: Path) -> None:
    data = m.damaged_pickle(rng, _weights_file(f"{rng.randrange(6)}.pkl"))
    _use_weights(_write(stem.with_suffix(".pkl"), data))


def torch_zip(rng: random.Random, stem: Path) -> None:
    data = m.damaged_zip(rng, _weights_file("zip.pth"), m.damaged_pickle)
    _use_weights(_write(stem.with_suffix(".pth"), data))


def torch_legacy(rng: random.Random, stem: Path) -> None:
    data = m.damaged_bytes(rng, _weights_file("legacy.pth"))
    _use_weights(_write(stem.with_suffix(".pth"), data))


def yaml_config(rng: random.Random, stem: Path) -> None:
    path = _write(stem.with_suffix(".yaml"), m.damaged_yaml(rng, _YAML))
    keys = read_yaml(path)
    merge_keys(_config(), {k: v for k, v in keys.items() if k != "_BASE_"}, str(path))


def huggingface_config(rng: random.Random, stem: Path) -> None:
    files = [read_json(_write_json(rng, Path(f"{stem}_{i}"), part)) for i, part in enumerate(_HUB)]
    if all(isinstance(file, dict) for file in files):  # as read_folder has it
        from_huggingface_config(*files)


def class_entry(rng: random.Random, stem: Path) -> None:
    value = {"classes": {"names": ["a", "b"], "thing_ids": [0], "colors": [[1, 2, 3], [4, 5, 6]]}}
    content = read_json(_write_json(rng, stem, value))
    if isinstance(content, Mapping):
        Classes.from_checkpoint(content)


SUBJECTS = (
    Subject("COCO instance json", instances, 2),
    Subject("COCO panoptic json", panoptic, 2),
    Subject("YouTube-VIS json", videos, 2),
    Subject("results of instances", results_of_instances),
    Subject("results of panoptic segmentation", results_of_panoptic),
    Subject("results of videos", results_of_videos),
    Subject("results of semantic segmentation", results_of_semantic, 0.7),
    Subject("given masks", given_masks),
    Subject("RLE", run_lengths, 2),
    Subject("PNG", png, 2),
    Subject("JPEG, BMP, TIFF, WebP, GIF", photo, 2),
    Subject("mp4", film, 0.3),
    Subject("safetensors", safetensors, 1.5),
    Subject("pickles", plain_pickle, 2),
    Subject("torch archives", torch_zip, 1.5),
    Subject("torch files before 1.6", torch_legacy),
    Subject("yaml", yaml_config, 1),
    Subject("Hugging Face config.json", huggingface_config),
    Subject("classes of a checkpoint", class_entry, 0.5),
)


def make_sound_files(folder: Path) -> None:
    """Write what subjects need to find, and read each form once, so that all is imported."""
    from mask2former.data import register

    _sound["folder"] = folder
    rng = np.random.default_rng(0)
    for i in (1, 2):
        cv2.imwrite(str(folder / f"{i}.jpg"), rng.integers(0, 255, (H, W, 3), np.uint8))
        write_panoptic_png(folder / f"{i}.png", MASK + 1 + np.int64(256 * i))
    (folder / "maps").mkdir()
    (folder / "photos").mkdir()
    cv2.imwrite(str(folder / "maps" / "1.png"), MASK)
    (folder / "photos" / "1.jpg").write_bytes((folder / "1.jpg").read_bytes())
    _sound["semantic"] = f"torture_{folder.name}"
    register(
        _sound["semantic"], "sem_seg", image_root=str(folder / "photos"),
        sem_seg_root=str(folder / "maps"), classes=["a", "b"],
    )  # fmt: skip
    for name in ("grey", "rgb", "palette", "deep"):
        _picture(f"{name}.png")
    for suffix in (".jpg", ".bmp", ".tif", ".webp", ".gif"):
        _picture(f"photo{suffix}")
    _film()
    for name in ("a.safetensors", *(f"{i}.pkl" for i in range(6)), "zip.pth", "legacy.pth"):
        _weights_file(name)
    _config()


_sound: dict[str, Any] = {}  # the files, made once, as bytes
_YAML = b"""\
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
_HUB = (
    {
        "model_type": "mask2former",
        "id2label": {"0": "a", "1": "b"},
        "backbone_config": {"model_type": "resnet", "depths": [3, 4, 6, 3], "hidden_sizes": [256]},
        **{"feature_size": 256, "hidden_dim": 256, "num_queries": 100, "mask_feature_size": 256},
        **{"decoder_layers": 10, "encoder_layers": 6, "class_weight": 2.0, "no_object_weight": 0.1},
    },
    {
        **{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.2, 0.2, 0.2], "size_divisor": 32},
        "size": {"shortest_edge": 800, "longest_edge": 1333},
    },
)


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _write_json(rng: random.Random, stem: Path, value: Any) -> Path:
    damaged = m.damaged_json(rng, value)
    return _write(Path(f"{stem}.json"), m.as_json(rng, damaged))


def _written_once(path: Path, value: Any) -> Path:
    if not path.exists():
        path.write_text(json.dumps(value))
    return path


def _panoptic_json(with_areas: bool) -> dict[str, Any]:
    def segments(i: int) -> list[dict[str, Any]]:
        areas = ({"area": H * W - 48}, {"area": 48}) if with_areas else ({}, {})
        pairs = zip((1, 2), (1, 7), areas)
        return [{"id": 256 * i + k, "category_id": c, "iscrowd": 0} | area for k, c, area in pairs]

    names = [{"image_id": i, "file_name": f"{i}.png", "segments_info": segments(i)} for i in (1, 2)]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": H, "width": W} for i in (1, 2)]
    return {"images": images, "categories": CATEGORIES, "annotations": names}


def _video_json() -> dict[str, Any]:
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


def _read_one_image(rng: random.Random, path: Path) -> None:
    readers: tuple[Callable, ...] = (image_size, read_image, read_labels, read_panoptic_png)
    found = rng.choice(readers)(path)
    if isinstance(found, np.ndarray):
        found.copy()


def _use_weights(path: Path) -> None:
    weights, rest = load_weights(path)
    for tensor in weights.values():
        assert tensor.numel() < 1 << 24
        tensor.clone()
    Classes.from_checkpoint(rest)


def _picture(name: str) -> bytes:
    from PIL import Image

    if name not in _sound:
        rgb = np.random.default_rng(1).integers(0, 255, (H, W, 3), np.uint8)
        image = Image.fromarray(rgb)
        image = {
            "grey.png": Image.fromarray(MASK),
            "palette.png": image.quantize(16),
            "deep.png": Image.fromarray(MASK.astype(np.uint16) * 300),
        }.get(name, image)
        exif = Image.Exif()
        exif[0x0112] = 6
        path = _sound["folder"] / f"sound_{name}"
        image.save(path, **({"exif": exif} if name.endswith((".jpg", ".tif", ".webp")) else {}))
        _sound[name] = path.read_bytes()
    return _sound[name]


def _film() -> bytes:
    if "film" not in _sound:
        from mask2former.formats.video.reading import Frame

        path = _sound["folder"] / "sound.mp4"
        writer = open_writer(path, Fraction(10))
        for i in range(4):
            picture = np.full((32, 48, 3), 60 * i, np.uint8)
            writer.write(picture, Frame(picture, i / 10, f"frame {i}"))
        writer.close()
        _sound["film"] = path.read_bytes()
    return _sound["film"]


def _weights_file(name: str) -> bytes:
    if name in _sound:
        return _sound[name]
    path = _sound["folder"] / f"sound_{name}"
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
    _sound[name] = path.read_bytes()
    return _sound[name]


def _config() -> Any:
    if "config" not in _sound:
        _sound["config"] = get_config()
    return _sound["config"].clone()
