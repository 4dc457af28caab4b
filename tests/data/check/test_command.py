"""The checker's command: reports of sound data, what it writes, configs and names of datasets."""

import re
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.data.check import command as check
from tests.data.check.folder import SIZE, SQUARE, Folder, check_coco, square


def test_sound_instances_pass_and_are_counted_and_drawn(coco: Folder, capsys) -> None:
    report = check_coco(coco, capsys)
    assert report.startswith("0 mine: instance, 2 classes")
    assert "3 images, 2 objects or regions, 1 crowd regions" in report
    assert "1 of 3 records without any object" in report
    assert "0 on which training fails, 0 others" in report
    assert "image sizes: 30x20 (3)" in report
    assert "object sizes: 2 small, 0 medium, 0 large" in report
    assert "ball                            2 ####" in report
    assert "without any: box" in report
    advice = "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES 20  INPUT.IMAGE_SIZE 128  "
    assert f"recommended: {advice}MODEL.MASK_FORMER.TRAIN_NUM_POINTS 1024" in report
    page = coco.root / "out" / "mine" / "index.html"
    assert f"pictures: {page}" in report and page.read_text().count("<img") == 2 * 3
    photo, drawn = (_picture(page.parent / f"0_{part}.jpg") for part in ("photo", "annotations"))
    assert photo.shape == (*SIZE, 3) and not photo.any()  # it is black
    assert drawn.shape == (400, 600, 3)  # enlarged 20 times, so that there is room for names
    assert (drawn[50:80, 50:170].max(2) > 100).all()  # above the name, which is in the middle
    assert not drawn[200:, :].max() > 30 and not drawn[:, 250:].max() > 30  # blur of the JPEG


def _picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_large_photos_are_drawn_small_and_clips_by_their_middle_frame(folder, capsys) -> None:
    folder.photos = {f"{i}.png": np.full((960, 1000, 3), 60 * i, np.uint8) for i in range(3)}
    folder.content = {
        "categories": [{"id": 1, "name": "box"}],
        "videos": [{"id": 1, "file_names": [f"{i}.png" for i in range(3)], "length": 3}],
        "annotations": [
            {"id": 1, "video_id": 1, "category_id": 1, "segmentations": [None, SQUARE, None]}
        ],
    }
    folder.run(capsys, {"task": "video", "annotations": folder.write()})
    assert [path.name for path in sorted((folder.root / "out" / "mine").glob("*.jpg"))] == [
        "1_annotations.jpg",
        "1_photo.jpg",
    ]
    assert _picture(folder.root / "out" / "mine" / "1_photo.jpg").shape == (480, 500, 3)


def test_nothing_is_drawn_if_not_asked_for(coco: Folder, capsys) -> None:
    check_coco(coco, capsys, "--samples", "0")
    assert not (coco.root / "out").exists()


def test_several_processes_report_the_same(coco: Folder, capsys) -> None:
    coco.content["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    expected = check_coco(coco, capsys)
    assert check_coco(coco, capsys, "--workers", "2") == expected


@pytest.mark.parametrize(
    ("task", "folder_name", "rest", "counts"),
    [
        ("instance", "coco28", {}, "28 images, 157 objects or regions, 2 crowd"),
        ("panoptic", "panoptic2", {"panoptic_root": "panoptic"}, "2 images, 47 objects .* 3 crowd"),
        ("video", "video", {}, "32 images, 2 objects or regions, 0 crowd"),
    ],
)
def test_real_data_pass(shared, folder, capsys, task, folder_name, rest, counts) -> None:
    root = shared / "data" / folder_name
    photos = {"video": "JPEGImages"}.get(task, "images")
    file = {"instance": "instances", "panoptic": "panoptic", "video": "annotations"}[task]
    entry = {"task": task, "image_root": str(root / photos)}
    entry |= {"annotations": str(root / f"{file}.json")}
    entry |= {key: str(root / value) for key, value in rest.items()}
    report = folder.run(capsys, entry, "--samples", "2")
    assert report.startswith("0 ") and "0 on which training fails" in report
    notes = re.findall(r"note .*\[(.*)\]", report)
    assert set(notes) <= {"class-unused"}
    assert re.search(counts, report)
    assert len(list((folder.root / "out" / "mine").glob("*_annotations.jpg"))) == 2


# Configs and names


def _config(coco: Folder, **keys: str) -> str:
    entry = f"{{name: mine, task: instance, image_root: {coco.root}, annotations: {coco.write()}}}"
    lines = ["DATASETS:", f"  CUSTOM: [{entry}]", '  TRAIN: ["mine"]', '  TEST: ["mine"]']
    lines += ["INPUT:", f"  DATASET_MAPPER_NAME: {keys.get('mapper', 'coco_instance_lsj')}"]
    (coco.root / "c.yaml").write_text("\n".join(lines))
    return str(coco.root / "c.yaml")


def test_more_objects_than_the_model_has_queries(coco: Folder, capsys) -> None:
    coco.content["annotations"] = [square(i, 0, 9) for i in range(7)]
    opts = ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "5", "TEST.DETECTIONS_PER_IMAGE", "6"]
    assert check.main([_config(coco), *opts, "--samples", "0"]) == 0
    out = capsys.readouterr().out
    assert "up to 7 objects in an image, in 1 images more than the 5 queries" in out
    assert "TEST.DETECTIONS_PER_IMAGE to 7 or more" in out
    opts = ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "8"]
    assert check.main([_config(coco), *opts, "--samples", "0"]) == 0
    out = capsys.readouterr().out
    assert "one of a hundred images has 7 objects or more, near the 8 queries" in out
    assert "NUM_OBJECT_QUERIES 14 there is room" in out
    opts = ["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "9"]
    assert check.main([_config(coco), *opts, "--samples", "0"]) == 0
    assert "queries of the model" not in capsys.readouterr().out


def test_a_config_is_checked_once_for_each_of_its_datasets(coco: Folder, capsys) -> None:
    assert check.main([_config(coco), "--samples", "0"]) == 0
    assert capsys.readouterr().out.count("mine: instance") == 1


def test_a_mapper_that_does_not_fit_is_found(coco: Folder, capsys) -> None:
    assert check.main([_config(coco, mapper="mask_former_panoptic"), "--samples", "0"]) == 1
    assert "targets of kind panoptic need 'pan_seg_file_name'" in capsys.readouterr().out


def test_a_number_of_classes_that_does_not_fit_is_found(coco: Folder, capsys) -> None:
    opts = ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3"]
    assert check.main([_config(coco), *opts, "--samples", "0"]) == 1
    out = capsys.readouterr().out
    assert "NUM_CLASSES is 3" in out and "2 classes" in out


def test_a_number_of_classes_that_does_not_fit_what_is_registered_is_found(
    coco: Folder, capsys
) -> None:
    assert check.main([_config(coco), "--samples", "0"]) == 0
    text = (coco.root / "c.yaml").read_text()
    lines = [line for line in text.splitlines() if "CUSTOM" not in line]
    lines += ["MODEL:", "  SEM_SEG_HEAD:", "    NUM_CLASSES: 3"]
    (coco.root / "c.yaml").write_text("\n".join(lines))  # "mine" stays registered
    capsys.readouterr()
    assert check.main([str(coco.root / "c.yaml"), "--samples", "0"]) == 1
    out = capsys.readouterr().out
    assert "FAILS  config: MODEL.SEM_SEG_HEAD.NUM_CLASSES is 3, but mine has 2" in out


def test_data_that_somebody_else_registered_are_checked(
    folder: Folder, capsys, tmp_path: Path
) -> None:
    folder.write()
    record = {"file_name": str(tmp_path / "0.png"), "height": 20, "width": 30}
    annotation = {"category_id": 1, "segmentation": SQUARE, "iscrowd": 0}
    DatasetCatalog.register("theirs", lambda: [record | {"annotations": [annotation]}])
    MetadataCatalog.get("theirs").thing_classes = ["box"]
    assert check.main(["theirs", "--samples", "0"]) == 1
    assert "annotation number 0: has class 1, expected 0 to 0" in capsys.readouterr().out


def test_unknown_names_list_those_alike(folder: Folder, capsys) -> None:
    DatasetCatalog.register("shapes_val", lambda: [])
    assert check.main(["shape_val"]) == 1
    expected = "'shape_val' is no config file (.yaml), and there is no dataset named 'shape_val'; "
    assert f"{expected}near names: shapes_val" in capsys.readouterr().out


def test_missing_files_of_a_known_dataset_are_named(
    folder: Folder, capsys, dataset_root: Path
) -> None:
    from mask2former.data.datasets import register_all

    register_all()
    assert check.main(["shapes_val_instance"]) == 1
    out = capsys.readouterr().out
    assert str(dataset_root / "shapes") in out and "prepare_shapes.py" in out
