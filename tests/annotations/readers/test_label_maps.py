"""Label maps as people have them: checker, training and scoring agree."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.annotations.findings import Findings
from mask2former.annotations.readers.label_maps import (
    LabelMeaning,
    check_labels,
    judge_labels,
    look_at_maps,
    pair_label_maps,
)
from mask2former.evaluation import SemSegEvaluator
from mask2former.formats.label_maps import read_labels
from tests.annotations import three
from tests.annotations.three import COUNT, HEIGHT, WIDTH, Refused, Taken


def label_map(i: int) -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[three.square(i)] = 1
    return labels


def replaced(table: dict[int, int], dtype: type = np.uint8):
    """Write other numbers into the maps."""

    def spoil(labels: np.ndarray, i: int) -> np.ndarray:
        table_of_all = np.array([table.get(k, k) for k in range(2)], dtype)
        return table_of_all[labels]

    return spoil


def in_one(value: int, which: int = 1, dtype: type = np.uint8):
    """Put a number into the corner of one map."""

    def spoil(labels: np.ndarray, i: int) -> np.ndarray:
        labels = labels.astype(dtype)
        if i == which:
            labels[0, 0] = value
        return labels

    return spoil


WHITE = "classes {'0': 'sky', '255': 'cat'} and another ignore_label (254)"
TIFF = "{}.tif"  # Pillow writes no PNG of 32 bits
CASES = {
    "sound": ({}, Taken()),
    "16 bits": ({"labels": in_one(255, dtype=np.uint16)}, Taken()),
    "32 bits": ({"labels": in_one(255, dtype=np.int32), "names": TIFF}, Taken()),
    "ignored": ({"labels": in_one(255)}, Taken()),
    "unknown": ({"labels": in_one(7)}, Refused("has the labels 7, which are no class from 0 to 1")),
    "no data": (
        {"labels": in_one(2**31 - 1, dtype=np.int32), "names": TIFF}, Refused("labels 2147483647,")
    ),
    "no data, mapped": (
        {"labels": in_one(2**31 - 1, dtype=np.int32), "names": TIFF, "ignore_label": 2**31 - 1,
         "classes": {"0": "sky", "1": "cat"}},
        Taken(),
    ),
    "selected": (
        {"labels": in_one(7), "classes": {"1": "cat", "0": "sky"}},
        Taken(("1.png: has the labels 7, which are no class and will be ignored",)),
    ),
    "black and white": ({"labels": replaced({1: 255})}, Refused(WHITE)),
    "black and white, mapped": (
        {"labels": replaced({1: 255}), "classes": {"0": "sky", "255": "cat"}, "ignore_label": 254},
        Taken(),
    ),
    "one class, white ignored": (
        {"labels": replaced({1: 255}), "classes": ["cat"]},
        Taken(("nothing but 0, which is the class 'cat'", "{'0': 'background', '255': 'cat'}"),
              (1, 1, 1, 1)),
    ),
    "one map of background": (
        {"labels": lambda labels, i: labels * (i != 1)}, Taken((), (2, 1, 2, 2))
    ),
    "one map without a class": (
        {"labels": lambda labels, i: labels if i != 1 else labels * 0 + 255},
        Taken(("1.png: has no pixel with a class",), (2, 0, 2, 2)),
    ),
    "all ignored": (
        {"labels": lambda labels, i: labels * 0 + 255},
        Refused("no pixel of the 4 label maps has a class"),
    ),
    "names with a suffix": (
        {"names": "{}_mask.png"}, Refused("4 label maps have the name of an image with '_mask'")
    ),
    "some names with a suffix": (
        {"names": ["0.png", "1_P.png", "2_P.png", "3_P.png"]},
        Taken(("3 of 4 photos have no label map of", "with '_P' behind it"), (2, None, None, None)),
    ),
    "map missing": (
        {"names": ["0.png", "1.png", "2.png", None]},
        Taken(("1 of 4 photos have no label map", "3.png"), (2, 2, 2, None)),
    ),
    "map without photo": (
        {"names": ["0.png", "1.png", "2.png", "9.png"]},
        Taken(("1 of 4 label maps have no photo", "9.png"), (2, 2, 2, None)),
    ),
    "two of a name": ({"twin": "1.tif"}, Refused("have the same name: keep one")),
    "two of a name, one lossy": ({"twin": "1.jpg"}, Taken()),
    "other suffixes": ({"names": ["0.bmp", "1.tif", "2.tiff", "3.PNG"]}, Taken()),
    "behind a link": ({"link": True}, Taken()),
    "no map at all": ({"names": [None] * 4}, Refused("none of the 4 images in")),
    "colours": (
        {"labels": lambda labels, i: np.stack([labels, labels * 90, labels * 7], 2)},
        Refused("0.png"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("how", "wanted"), CASES.values(), ids=CASES)
def test_three_agree(tmp_path, monkeypatch, capsys, empty_catalogs, how, wanted) -> None:
    three.write_photos(tmp_path / "img")
    _write_maps(tmp_path, how)
    entry = {
        "task": "sem_seg",
        "image_root": str(tmp_path / "img"),
        "sem_seg_root": str(tmp_path / "maps"),
        "classes": how.get("classes", ["sky", "cat"]),
        "ignore_label": how.get("ignore_label", 255),
    }
    options = ["INPUT.DATASET_MAPPER_NAME", "mask_former_semantic"]
    options += ["SOLVER.IMS_PER_BATCH", sum(map(bool, getattr(wanted, "targets", [1])))]
    options[-1] = _num_pairs(tmp_path)
    answers = three.ask(tmp_path, monkeypatch, capsys, options=options, **entry)
    three.judge(answers, wanted, lambda: _score(answers.name))


def _write_maps(folder: Path, how: dict[str, Any]) -> None:
    real = folder / ("elsewhere" if how.get("link") else "maps")
    real.mkdir()
    names = how.get("names", "{}.png")
    for i in range(COUNT):
        name = names.format(i) if isinstance(names, str) else names[i]
        if name:
            labels = how.get("labels", lambda labels, i: labels)(label_map(i), i)
            Image.fromarray(labels.astype(labels.dtype, copy=False)).save(real / name)
    if how.get("link"):
        (folder / "maps").mkdir()
        (folder / "maps" / "sub").symlink_to(real)
        (real / "loop").symlink_to(real)
        photos = folder / "img"
        photos.rename(folder / "sub")
        photos.mkdir()
        (folder / "sub").rename(photos / "sub")
    if "twin" in how:
        Image.fromarray(label_map(1)).save(real / how["twin"])


def _num_pairs(folder: Path) -> int:
    try:
        return max(1, len(pair_label_maps(str(folder / "img"), str(folder / "maps"))[0]))
    except FileNotFoundError:
        return 1


def _score(name: str) -> float:
    """IoU of the maps themselves."""
    metadata = MetadataCatalog.get(name)
    numbers = metadata.get("sem_seg_labels") or range(len(metadata.stuff_classes))
    evaluator = SemSegEvaluator(name, distributed=False)
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        labels = read_labels(record["sem_seg_file_name"])
        scores = np.stack([labels == number for number in numbers]).astype(np.float32)
        evaluator.process([record], [{"sem_seg": torch.from_numpy(scores)}])
    return evaluator.evaluate()["sem_seg"]["mIoU"]


# Names


def _touch(folder: Path, *names: str) -> str:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return str(folder)


@pytest.mark.parametrize(
    ("photo", "label_map", "proposed"),
    [
        ("{}.jpg", "{}_mask.png", "12 label maps have the name of an image with '_mask'"),
        ("{}.jpg", "{}_labelIds.png", "12 label maps .* '_labelIds'"),
        ("a/{}.jpg", "a/{}.mask.png", "12 label maps .* '.mask'"),
        ("{}_img.jpg", "{}.png", "12 images have the name of a label map with '_img'"),
    ],
)
def test_the_ending_that_keeps_names_apart_is_proposed(
    tmp_path, photo: str, label_map: str, proposed: str
) -> None:
    numbers = range(1, 13)  # "1" is how "12" begins, too
    photos = _touch(tmp_path / "photos", *(photo.format(i) for i in numbers))
    maps = _touch(tmp_path / "maps", *(label_map.format(i) for i in numbers))
    with pytest.raises(FileNotFoundError, match=f"none of the 12 images in .*; {proposed}"):
        pair_label_maps(photos, maps)


def test_files_without_a_match_are_counted_and_five_are_named(tmp_path) -> None:
    photos = _touch(tmp_path / "photos", *(f"{i}.jpg" for i in range(9)))
    maps = _touch(tmp_path / "maps", "0.png", "x.png")
    pairs, findings = pair_label_maps(photos, maps)
    assert pairs == [(f"{photos}/0.jpg", f"{maps}/0.png")]
    lone, other = (str(finding) for finding in findings)
    assert "8 of 9 photos have no label map of their name" in lone
    assert f"{photos}/5.jpg and 3 more [photos-without-map]" in lone
    assert f"1 of 2 label maps have no photo of their name and are left out: {maps}/x.png" in other


# Numbers


def test_judgement_needs_all_maps() -> None:
    meaning = LabelMeaning(["sky", "cat"])
    for seen, codes in (
        ({}, []),
        ({0: 3, 255: 2}, ["white-ignored-one-class"]),
        ({0: 3, 255: 2, 1: 1}, []),
        ({0: 3}, []),  # a dataset may be all background
        ({255: 3}, ["no-class-in-maps"]),
        ({7: 3}, []),  # which is refused otherwise
    ):
        findings = Findings("maps")
        judge_labels(seen, 3 * bool(seen), meaning, findings)
        assert list(findings.counts) == codes


def test_a_sample_is_looked_at_and_all_maps_only_in_doubt(tmp_path, monkeypatch) -> None:
    read = []

    def note(path):
        read.append(path)
        return read_labels(path)

    monkeypatch.setattr("mask2former.annotations.readers.label_maps.read_labels", note)
    values = [0, 255] * 60
    paths = [str(tmp_path / f"{i:03}.png") for i in range(120)]
    for value, path in zip(values, paths):
        Image.fromarray(np.array([[0, value]], np.uint8)).save(path)
    meaning = LabelMeaning(["sky", "cat"])
    findings = look_at_maps(paths, meaning, "maps")
    assert list(findings.counts) == ["white-ignored-one-class"] and sorted(read) == paths
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(paths[0])
    read.clear()
    assert len(look_at_maps(paths, meaning, "maps")) == 0
    assert len(read) == 40  # every third


def test_long_lists_of_numbers_are_cut() -> None:
    findings = Findings("maps")
    check_labels(range(200), LabelMeaning(["sky", "cat"]), "a.png", findings)
    (finding,) = findings
    assert "labels 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 188 more, which are no class" in finding.text
