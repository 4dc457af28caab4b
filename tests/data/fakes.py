"""Small fakes of published datasets, as they are before they are prepared.

Every function writes one image a split, of 12 x 16 pixels in four quarters, into the folder that a
person would unpack the dataset to. The quarters are::

    A A A A B B B B
    C C C C D D D D
"""

import json
from pathlib import Path

import numpy as np
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES, COCO_CATEGORIES
from PIL import Image
from scipy.io import savemat

from mask2former.data.categories import load_categories

HEIGHT, WIDTH = 12, 16

Array = np.ndarray


def quarters(a: int, b: int, c: int, d: int, dtype: type = np.uint8) -> Array:
    """An array (12, 16) with a value in each quarter."""
    return np.kron(np.array([[a, b], [c, d]], dtype), np.ones((HEIGHT // 2, WIDTH // 2), dtype))


def save(path: Path, array: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def save_photo(path: Path) -> None:
    rng = np.random.default_rng(0)
    save(path, rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def save_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def ade20k(root: Path) -> None:
    """Quarters: wall, nothing, floor, bed; two beds, split by a column, and a lamp on the wall."""
    folder = root / "ADEChallengeData2016"
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        save_photo(folder / "images" / split / f"{name}.jpg")
        # Labels count from 1, 0 is nothing: wall 1, floor 4, bed 8.
        save(folder / "annotations" / split / f"{name}.png", quarters(1, 0, 4, 8))
        instances = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        instances[6:, 8:11] = (1, 1, 0)  # the first thing class, bed; red class, green instance
        instances[6:, 12:] = (1, 2, 0)
        instances[1:3, 2:6] = (19, 3, 0)
        save(folder / "annotations_instance" / split / f"{name}.png", instances)


def ade20k_full(root: Path) -> None:
    """Quarters: wall 2978, building 312, something that is not among the 847, nothing."""
    objects = [(2978, "wall"), (312, "building, edifice"), (5, "a thing nobody counts")]
    numbers = quarters(2978, 312, 5, 0, np.int32)
    segments = np.stack([numbers // 256 * 10, numbers % 256, numbers * 0 + 7], axis=-1)
    content = {"annotation": {"object": [{"name_ndx": i, "name": n} for i, n in objects]}}
    for split, name in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        folder = root / "ADE20K_2021_17_01" / "images" / "ADE" / split / "urban" / "street"
        save_photo(folder / f"{name}.jpg")
        save(folder / f"{name}_seg.png", segments.astype(np.uint8))
        save_json(folder / f"{name}.json", content)


def _panoptic(folder: Path, name: str, rows: list[tuple[int, int]]) -> dict:
    """Writes a panoptic PNG with a segment a quarter, (segment id, category); 0 for none."""
    ids = quarters(*(i for i, _ in rows), dtype=np.int32)
    rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    save(folder / f"{name}.png", rgb)
    segments = []
    for (segment_id, category), (x, y) in zip(rows, ((0, 0), (8, 0), (0, 6), (8, 6))):
        box = {"bbox": [x, y, 8, 6], "area": 48, "iscrowd": 0}
        segments.append({"id": segment_id, "category_id": category, **box})
    return {"file_name": f"{name}.png", "segments_info": [s for s in segments if s["id"]]}


def coco_panoptic(root: Path) -> None:
    """Quarters: person, dog, grass-merged (193), nothing."""
    folder = root / "coco"
    for split in ("train", "val"):
        save_photo(folder / f"{split}2017" / "000000000007.jpg")
        rows = [(1 + 256 * 2 + 65536 * 3, 1), (70000, 18), (5, 193), (0, 0)]
        annotation = _panoptic(folder / f"panoptic_{split}2017", "000000000007", rows)
        image = {"id": 7, "file_name": "000000000007.jpg", "height": HEIGHT, "width": WIDTH}
        content = {"images": [image], "annotations": [{"image_id": 7, **annotation}]}
        path = folder / "annotations" / f"panoptic_{split}2017.json"
        save_json(path, {**content, "categories": COCO_CATEGORIES})
        objects = [
            {"id": i, "image_id": 7, "category_id": c, "iscrowd": 0, "area": 48}
            | {"bbox": [x, 0, 8, 6], "segmentation": [[x, 0, x + 8, 0, x + 8, 6, x, 6]]}
            for i, c, x in ((1, 1, 0), (2, 18, 8))
        ]
        path = folder / "annotations" / f"instances_{split}2017.json"
        categories = [c for c in COCO_CATEGORIES if c["isthing"]]
        save_json(path, {"images": [image], "annotations": objects, "categories": categories})


def coco_stuff_10k(root: Path) -> None:
    """Quarters: person 1, bicycle 2, wood 182, unlabeled 0."""
    folder = root / "coco" / "coco_stuff_10k"
    for split, name in (("train", "COCO_train2014_000000000077"), ("test", "COCO_train2014_78")):
        save_photo(folder / "images" / f"{name}.jpg")
        (folder / "annotations").mkdir(exist_ok=True)
        savemat(folder / "annotations" / f"{name}.mat", {"S": quarters(1, 2, 182, 0, np.uint16)})
        (folder / "imageLists").mkdir(exist_ok=True)
        (folder / "imageLists" / f"{split}.txt").write_text(f"{name}\n")


def mapillary_vistas(root: Path) -> None:
    """Quarters: bird (thing 1), sky (stuff 28), car (thing 56), and a second car."""
    for split in ("training", "validation"):
        folder = root / "mapillary_vistas" / split
        save_photo(folder / "images" / "aBc-1.jpg")
        save(folder / "labels" / "aBc-1.png", quarters(0, 27, 55, 55))
        rows = [(11, 1), (300, 28), (70001, 56), (70002, 56)]
        annotation = _panoptic(folder / "panoptic", "aBc-1", rows)
        image = {"id": "aBc-1", "file_name": "aBc-1.jpg", "height": HEIGHT, "width": WIDTH}
        content = {"images": [image], "annotations": [{"image_id": "aBc-1", **annotation}]}
        content["categories"] = load_categories("mapillary_vistas")
        save_json(folder / "panoptic" / "panoptic_2018.json", content)


def cityscapes(root: Path) -> None:
    """Quarters: road, sky, car, nothing; with what cityscapesscripts makes of the annotations."""
    folder = root / "cityscapes"
    for split in ("train", "val"):
        name = "bern_000000_000019"
        save_photo(folder / "leftImg8bit" / split / "bern" / f"{name}_leftImg8bit.png")
        stem = folder / "gtFine" / split / "bern" / f"{name}_gtFine"
        save(Path(f"{stem}_labelTrainIds.png"), quarters(0, 10, 13, 255))
        save(Path(f"{stem}_labelIds.png"), quarters(7, 23, 26, 0))
        save(Path(f"{stem}_instanceIds.png"), quarters(7, 23, 26000, 0, np.uint16))
        box = [[0, 6], [8, 6], [8, 12], [0, 12]]
        objects = [{"label": "car", "polygon": box}]
        size = {"imgHeight": HEIGHT, "imgWidth": WIDTH}
        save_json(Path(f"{stem}_polygons.json"), {**size, "objects": objects})
        panoptic = folder / "gtFine" / f"cityscapes_panoptic_{split}"
        rows = [(7, 7), (23, 23), (26000, 26), (0, 0)]
        annotation = {"image_id": name, **_panoptic(panoptic, f"{name}_gtFine_panoptic", rows)}
        content = {
            "images": [{"id": name, "file_name": f"{name}_gtFine_leftImg8bit.png"}],
            "annotations": [annotation],
            "categories": [
                {key: c[key] for key in ("id", "name", "isthing")} for c in CITYSCAPES_CATEGORIES
            ],
        }
        save_json(panoptic.with_suffix(".json"), content)


def ytvis(
    root: Path,
    folder: str = "ytvis_2019",
    classes: str = "ytvis_2019",
    frames: str = "{}/JPEGImages",
    annotations: str = "{}.json",
) -> None:
    """Two frames with an object in the upper left quarter, of category 3, hidden in the second.

    `frames` and `annotations` are where a split keeps these.
    """
    categories = [{"id": c["id"], "name": c["name"]} for c in load_categories(classes)]
    for split in ("train", "valid"):
        names = [f"clip/{frame:05d}.jpg" for frame in range(2)]
        for name in names:
            save_photo(root / folder / frames.format(split) / name)
        size = {"height": HEIGHT, "width": WIDTH, "length": 2}
        annotation = {
            "id": 1,
            "video_id": 1,
            "category_id": 3,
            "iscrowd": 0,
            "bboxes": [[0, 0, 8, 6], None],
            "segmentations": [[[0, 0, 8, 0, 8, 6, 0, 6]], None],
            "areas": [48, None],
            **size,
        }
        videos = [{"id": 1, "file_names": names, **size}]
        content = {"videos": videos, "annotations": [annotation], "categories": categories}
        save_json(root / folder / annotations.format(split), content)


def ovis(root: Path) -> None:
    """The same as `ytvis`, with frames and annotations where OVIS has them."""
    ytvis(root, "ovis", "ovis", frames="{}", annotations="annotations_{}.json")
