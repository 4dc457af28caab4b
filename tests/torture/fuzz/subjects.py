"""What reads files, and each in how many cases.

A subject reads what it wrote in one way a user has: whatever comes of a damaged file, it is an
error that says so, or a result that can be worked with to the end.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mask2former.annotations.readers.given_masks import MaskFile
from mask2former.annotations.readers.instances import read_instances
from mask2former.annotations.readers.panoptic import read_panoptic, read_segment_map
from mask2former.annotations.readers.videos import read_videos
from mask2former.annotations.repair import repaired_instances
from mask2former.checkpoints.bridges.huggingface_config import from_huggingface_config
from mask2former.classes import Classes
from mask2former.config.loading import merge_keys
from mask2former.config.yaml_reader import read_yaml
from mask2former.data.datasets.instances import count_objects, to_records
from mask2former.data.mappers import DatasetMapper
from mask2former.evaluation import coco_average_precision, evaluate_ytvis, pq_compute, semantic_pq
from mask2former.evaluation.panoptic.quality import PanopticQuality
from mask2former.formats import rle
from mask2former.formats.images import image_size, read_image
from mask2former.formats.json_files import read_json
from mask2former.formats.label_maps import read_labels, read_panoptic_png
from mask2former.formats.segmentations import compress, draw_mask
from mask2former.formats.video.reading import open_source
from tests.torture.fuzz import containers, corpus, models
from tests.torture.fuzz import mutations as m
from tests.torture.fuzz.corpus import CATEGORIES, POLYGON, RLE, RUNS, H, W
from tests.torture.fuzz.json_damage import as_json, damaged_json
from tests.torture.fuzz.models import write
from tests.torture.fuzz.raw import damaged_bytes, damaged_text


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
    path = _write_json(rng, stem, corpus.panoptic_json(with_areas=True))
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
    path = _write_json(rng, stem, corpus.video_json())
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
    path = _write_json(rng, stem, corpus.panoptic_json(with_areas=False))
    truth = path.parent / "truth_panoptic.json"
    if not truth.exists():
        truth.write_text(json.dumps(corpus.panoptic_json(with_areas=True)))
    pq_compute(truth, path, path.parent, path.parent, num_workers=1)


def results_of_videos(rng: random.Random, stem: Path) -> None:
    entries = [
        {"video_id": 3, "category_id": 1, "score": 0.5, "segmentations": masks}
        for masks in ([RLE, None, RUNS], [[POLYGON], RLE, None])
    ]
    evaluate_ytvis(corpus.video_json(), str(_write_json(rng, stem, entries)))


def results_of_semantic(rng: random.Random, stem: Path) -> None:
    entries = [
        {"file_name": str(stem.parent / "photos" / "1.jpg"), "category_id": k, "segmentation": RLE}
        for k in (0, 1)
    ]
    semantic_pq(corpus.SOUND["semantic"], _write_json(rng, stem, entries))


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
        value["counts"] = damaged_text(rng, value["counts"])
    else:
        value = damaged_json(rng, value)
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
    path = write(stem.with_suffix(".png"), m.damaged_png(rng, corpus.picture(f"{kind}.png")))
    _read_one_image(rng, path)


def photo(rng: random.Random, stem: Path) -> None:
    suffix = rng.choice((".jpg", ".jpg", ".bmp", ".tif", ".webp", ".gif"))
    data = damaged_bytes(rng, corpus.picture(f"photo{suffix}"))
    _read_one_image(rng, write(stem.with_suffix(suffix), data))


def film(rng: random.Random, stem: Path) -> None:
    path = write(stem.with_suffix(".mp4"), damaged_bytes(rng, corpus.film()))
    for number, _ in enumerate(open_source(path, rng.choice(("stop", "skip")))):
        if number > 20:
            break


def yaml_config(rng: random.Random, stem: Path) -> None:
    path = write(stem.with_suffix(".yaml"), m.damaged_yaml(rng, corpus.YAML))
    keys = read_yaml(path)
    merge_keys(corpus.config(), {k: v for k, v in keys.items() if k != "_BASE_"}, str(path))


def huggingface_config(rng: random.Random, stem: Path) -> None:
    files = [
        read_json(_write_json(rng, Path(f"{stem}_{i}"), part)) for i, part in enumerate(corpus.HUB)
    ]
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
    Subject("TIFF in windows", containers.tiff, 0.5),
    Subject("tar archives", containers.archive, 0.5),
    Subject("safetensors", models.safetensors, 1.5),
    Subject("pickles", models.plain_pickle, 2),
    Subject("torch archives", models.torch_zip, 1.5),
    Subject("torch files before 1.6", models.torch_legacy),
    Subject("ONNX metadata", models.onnx_metadata),
    Subject("yaml", yaml_config),
    Subject("Hugging Face config.json", huggingface_config),
    Subject("classes of a checkpoint", class_entry, 0.5),
)


def _write_json(rng: random.Random, stem: Path, value: Any) -> Path:
    damaged = damaged_json(rng, value)
    return write(Path(f"{stem}.json"), as_json(rng, damaged))


def _read_one_image(rng: random.Random, path: Path) -> None:
    readers: tuple[Callable, ...] = (image_size, read_image, read_labels, read_panoptic_png)
    found = rng.choice(readers)(path)
    if isinstance(found, np.ndarray):
        found.copy()
