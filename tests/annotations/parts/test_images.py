"""Sizes and files of images, as checking, training and scoring find them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from PIL import Image

from mask2former.annotations import read_instances
from mask2former.config import get_config
from mask2former.data.datasets.registered import read_dataset
from mask2former.evaluation.build import build_evaluator
from tests.annotations.three import Taken, ask, judge

HEIGHT, WIDTH = 24, 40  # as the pixels are stored; the tag swaps them
BOX = [3, 4, 10, 8]
MAPPER = ["INPUT.DATASET_MAPPER_NAME", "coco_instance_lsj"]


def write(folder: Path, names: list[str], **image: Any) -> Path:
    """Write a json of photos without sizes, each with one object."""
    x, y, width, height = BOX
    corners = [x, y, x + width, y, x + width, y + height, x, y + height]
    content = {
        "images": [{"id": i, "file_name": name} | image for i, name in enumerate(names)],
        "categories": [{"id": 1, "name": "box"}],
        "annotations": [
            {"image_id": i, "category_id": 1, "bbox": BOX, "area": 80, "segmentation": [corners]}
            for i in range(len(names))
        ],
    }
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    return path


def write_turned_photo(folder: Path, name: str = "0.jpg") -> None:
    folder.mkdir(exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(pixels).save(folder / name, exif=exif)


def perfect_score(size: tuple[int, int], exif_rotation: bool, folder: Path) -> float:
    """Score the object itself on photos of a size (H, W)."""
    x, y, width, height = BOX
    masks = torch.zeros(1, *size, dtype=torch.bool)
    masks[:, y : y + height, x : x + width] = True
    found = Instances(size, pred_masks=masks, scores=torch.ones(1), pred_classes=torch.tensor([0]))
    cfg = get_config()
    cfg.INPUT.EXIF_ROTATION, cfg.OUTPUT_DIR = exif_rotation, str(folder)
    cfg.MODEL.MASK_FORMER.TEST.INSTANCE_ON = True
    evaluator = build_evaluator(cfg, "mine")
    evaluator.reset()
    for record in read_dataset("mine").records:
        evaluator.process([record], [{"instances": found}])
    return evaluator.evaluate()["segm"]["AP"]


@pytest.mark.parametrize("exif_rotation", [True, False])
def test_three_agree_on_a_turned_photo_without_a_size(
    exif_rotation, empty_catalogs, tmp_path, monkeypatch, capsys
) -> None:
    write_turned_photo(tmp_path / "photos")
    answers = ask(
        tmp_path,
        monkeypatch,
        capsys,
        task="instance",
        image_root=str(tmp_path / "photos"),
        annotations=str(write(tmp_path, ["0.jpg"])),
        options=[*MAPPER, "INPUT.EXIF_ROTATION", exif_rotation],
    )
    size = (WIDTH, HEIGHT) if exif_rotation else (HEIGHT, WIDTH)
    wanted = Taken(("image-size",), (1,))
    judge(answers, wanted, lambda: perfect_score(size, exif_rotation, tmp_path))


@pytest.mark.parametrize("exif_rotation", [True, False])
@pytest.mark.parametrize("as_seen", [True, False])
def test_the_checker_turns_photos_as_training_does(
    exif_rotation, as_seen, empty_catalogs, tmp_path, monkeypatch, capsys
) -> None:
    write_turned_photo(tmp_path / "photos")
    height, width = (WIDTH, HEIGHT) if as_seen else (HEIGHT, WIDTH)
    answers = ask(
        tmp_path,
        monkeypatch,
        capsys,
        task="instance",
        image_root=str(tmp_path / "photos"),
        annotations=str(write(tmp_path, ["0.jpg"], height=height, width=width)),
        options=[*MAPPER, "INPUT.EXIF_ROTATION", exif_rotation],
    )
    fits = exif_rotation or not as_seen  # True takes annotations of the stored pixels as such
    assert (answers.code, answers.error == "") == ((0, True) if fits else (1, False))


@pytest.mark.parametrize(
    "name",
    [
        "https://storage.example.org/project/{}?token=eyJ&x=1",
        "file:///home/me/{}",
        "/data/local-files/?d=project/{}",
        "..\\..\\media\\upload\\1\\{}",
        "C:\\photos\\{}",
        "/home/me/photos/{}",
        "./{}",
    ],
)
def test_names_of_other_places_are_found_by_their_end(name, tmp_path) -> None:
    for i in range(2):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"{i}.png")
    path = write(tmp_path, [name.format(f"{i}.png") for i in range(2)])
    read = read_instances(path, tmp_path, find_files=True)
    assert not read.findings.of("refused")
    for i, image in enumerate(read.content["images"]):
        assert (tmp_path / image["file_name"]).resolve() == (tmp_path / f"{i}.png").resolve()
        assert (image["height"], image["width"]) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ["a\0.png", "\ud800.png", "..", "https://"])
def test_names_that_no_file_can_have_are_missing_files(name, tmp_path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "0.png")
    path = write(tmp_path, ["0.png", name])
    read = read_instances(path, tmp_path, find_files=True)
    assert [f.code for f in read.findings.of("refused")] == ["image-file-missing"]
    assert "set image_root to the folder" in read.findings.of("refused")[0].text
