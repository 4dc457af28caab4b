"""Cityscapes, which detectron2 loads: files that are missing are named at the start."""

import shutil
from pathlib import Path

import pytest
from detectron2.data.datasets import builtin

from mask2former.data.datasets.registered import read_dataset
from mask2former.engine.defaults import check_dataset
from mask2former.errors import UserError
from tests.data import fakes


@pytest.fixture
def root(tmp_path, empty_catalogs) -> Path:
    fakes.cityscapes(tmp_path)
    builtin.register_all_cityscapes(str(tmp_path))
    builtin.register_all_cityscapes_panoptic(str(tmp_path))
    return tmp_path / "cityscapes"


@pytest.mark.parametrize("kind", ["panoptic", "sem_seg", "instance_seg"])
def test_what_is_complete_passes(root: Path, kind: str) -> None:
    check_dataset(f"cityscapes_fine_{kind}_train")


@pytest.mark.parametrize(
    ("kind", "missing", "command"),
    [
        ("sem_seg", "gtFine/train/bern/*_labelTrainIds.png", "csCreateTrainIdLabelImgs"),
        ("panoptic", "gtFine/train/bern/*_labelTrainIds.png", "csCreateTrainIdLabelImgs"),
        ("panoptic", "gtFine/cityscapes_panoptic_train.json", "csCreatePanopticImgs"),
        ("panoptic", "gtFine/cityscapes_panoptic_train", "csCreatePanopticImgs"),
        ("instance_seg", "gtFine/train/bern/*_polygons.json", "unpack gtFine_trainvaltest.zip"),
        ("sem_seg", "leftImg8bit/train/bern/*.png", "leftImg8bit_trainvaltest.zip"),
        ("sem_seg", "leftImg8bit/train", "leftImg8bit_trainvaltest.zip"),
    ],
)
def test_what_is_missing_is_named_with_how_to_make_it(
    root: Path, kind: str, missing: str, command: str
) -> None:
    (path,) = root.glob(missing)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for ask in (check_dataset, read_dataset):
        with pytest.raises(FileNotFoundError) as raised:
            ask(f"cityscapes_fine_{kind}_train")
        named = path.parent if "leftImg8bit" in missing and "*" in missing else path
        assert str(named.parent) in str(raised.value) and " is missing; " in str(raised.value)
        assert command in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "file", "text", "reason"),
    [
        ("panoptic", "cityscapes_panoptic_train.json", "", "expected a json file"),
        ("panoptic", "cityscapes_panoptic_train.json", '{"annotations": 7}', "TypeError"),
        ("sem_seg", "train/bern/*_polygons.json", "[1,", "expected a json file"),
        ("instance_seg", "train/bern/*_polygons.json", "version https://git-lfs", "Git LFS"),
    ],
)
def test_what_is_damaged_is_named(root: Path, kind: str, file: str, text: str, reason: str) -> None:
    (path,) = (root / "gtFine").glob(file)
    path.write_text(text)
    with pytest.raises(UserError, match=reason) as raised:
        read_dataset(f"cityscapes_fine_{kind}_train")
    assert str(path) in str(raised.value)
