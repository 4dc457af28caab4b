"""The checker: every defect it should report, its exit code, and sound data that it should pass."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.data.check import command as check
from mask2former.data.datasets import custom

SQUARE = [[2.0, 2.0, 9.0, 2.0, 9.0, 9.0, 2.0, 9.0]]
SIZE = (20, 30)  # H, W


class Folder:
    """A small dataset whose parts a test can spoil before it is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.photos = {f"{i}.png": np.full((*SIZE, 3), 60 * i, np.uint8) for i in range(3)}
        self.content: dict[str, Any] = {}

    def write(self, name: str = "a.json") -> str:
        for photo, array in self.photos.items():
            Image.fromarray(array).save(self.root / photo)
        (self.root / name).write_text(json.dumps(self.content))
        return str(self.root / name)

    def run(self, capsys: pytest.CaptureFixture, entry: dict[str, Any], *options: str) -> str:
        """The report; the exit code is the first word of it."""
        entry = {"name": "mine", "image_root": str(self.root)} | entry
        opts = ["DATASETS.CUSTOM", json.dumps([entry])]
        code = check.main(["mine", *opts, "--output", str(self.root / "out"), *options])
        return f"{code} {capsys.readouterr().out}"


@pytest.fixture
def folder(tmp_path: Path, empty_catalogs: None, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(custom, "_REGISTERED", {})
    return Folder(tmp_path)


@pytest.fixture
def coco(folder: Folder) -> Folder:
    """3 photos: with a square and crowd, with a square, with nothing."""
    folder.content = {
        "categories": [{"id": 5, "name": "box"}, {"id": 9, "name": "ball"}],
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]}
            for i in range(3)
        ],
        "annotations": [_square(1, 0, 9), _square(2, 0, 5, iscrowd=1), _square(3, 1, 9)],
    }
    return folder


def _square(i: int, image: int, category: int, **more: Any) -> dict[str, Any]:
    common = {"segmentation": SQUARE, "iscrowd": 0, "area": 49, "bbox": [2, 2, 7, 7]}
    return {"id": i, "image_id": image, "category_id": category} | common | more


def _picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def _check_coco(coco: Folder, capsys, *options: str) -> str:
    return coco.run(capsys, {"task": "instance", "annotations": coco.write()}, *options)


# Sound data


def test_sound_instances_pass_and_are_counted_and_drawn(coco: Folder, capsys) -> None:
    report = _check_coco(coco, capsys)
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
    _check_coco(coco, capsys, "--samples", "0")
    assert not (coco.root / "out").exists()


def test_several_processes_report_the_same(coco: Folder, capsys) -> None:
    coco.content["annotations"][0]["segmentation"] = [[1, 1, 2, 2]]
    expected = _check_coco(coco, capsys)
    assert _check_coco(coco, capsys, "--workers", "2") == expected


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


# Instances: what fails


def _spoil_nothing(coco: Folder) -> None:
    pass


def _remove_photo(coco: Folder) -> None:
    coco.photos.pop("1.png")


def _resize_photo(coco: Folder) -> None:
    coco.photos["1.png"] = np.zeros((20, 31, 3), np.uint8)


def _unknown_category(coco: Folder) -> None:
    coco.content["annotations"][2]["category_id"] = 7


def _twin_annotations(coco: Folder) -> None:
    coco.content["annotations"][2]["id"] = 1


def _flat_polygon_list(coco: Folder) -> None:
    coco.content["annotations"][2]["segmentation"] = SQUARE[0]


def _rle_of_other_size(coco: Folder) -> None:
    coco.content["annotations"][2]["segmentation"] = {"size": [5, 5], "counts": [25]}


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (_remove_photo, "1.png: Image file not found"),
        (_resize_photo, "1.png: expected 30x20 pixels (width x height)"),
        (_unknown_category, "a.json: annotation 3: has the category id 7, which is none of the"),
    ],
)
def test_what_training_fails_on_gives_exit_code_1(coco: Folder, capsys, spoil, finding) -> None:
    spoil(coco)
    report = _check_coco(coco, capsys)
    assert report.startswith("1 ")
    (line,) = (line for line in report.removeprefix("1 ").splitlines() if finding in line)
    assert line.strip().startswith("FAILS  ")


@pytest.mark.parametrize("keep", [0, 40])
def test_broken_photos_are_found(coco: Folder, capsys, keep: int) -> None:
    path = coco.write()
    (coco.root / "1.png").write_bytes((coco.root / "1.png").read_bytes()[:keep])
    report = coco.run(capsys, {"task": "instance", "annotations": path})
    assert report.startswith("1 ") and "1.png: Cannot read" in report.replace(
        f"Cannot read {coco.root}/1.png: ", "Cannot read "
    )


# Instances: what training goes on with


def _short_polygon(coco: Folder) -> None:
    coco.content["annotations"][2]["segmentation"] = [[1, 1, 5, 5]]


def _short_and_long_polygon(coco: Folder) -> None:
    coco.content["annotations"][2]["segmentation"] = [[1, 1, 5, 5], *SQUARE]


def _empty_mask(coco: Folder) -> None:
    coco.content["annotations"][2]["segmentation"] = [[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]]


def _no_area(coco: Folder) -> None:
    del coco.content["annotations"][2]["area"]


def _annotation_of_no_image(coco: Folder) -> None:
    coco.content["annotations"].append(_square(4, 77, 5))


def _twin_images(coco: Folder) -> None:
    coco.content["images"].append(coco.content["images"][2])


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        (_short_polygon, "annotation 3: its polygon has fewer than 3 points; the object is left"),
        (_short_and_long_polygon, "annotation 3: a polygon of it has fewer than 3 points and is"),
        (_empty_mask, "1.png: annotation 3: the mask covers no pixel of the image"),
        (_no_area, "a.json: annotation 3: area is None: computed from the mask"),
        (_annotation_of_no_image, "a.json: annotation 4: its image 77 is not listed; left out"),
        (_twin_images, "a.json: image 2 (2.png): the image is listed twice"),
        (_twin_annotations, "a.json: annotation 1: the id occurs more than once"),
        (_flat_polygon_list, "annotation 3: the mask is a flat list: converted"),
        (_rle_of_other_size, "annotation 3: its RLE cannot be used (RLE size: expected [20, 30]"),
    ],
)
def test_what_training_passes_over_is_noted(coco: Folder, capsys, spoil, finding: str) -> None:
    spoil(coco)
    report = _check_coco(coco, capsys)
    assert report.startswith("0 ")
    (line,) = (line for line in report.splitlines() if finding in line)
    assert line.startswith("  note   ")


def test_findings_for_machines(coco: Folder, capsys) -> None:
    _short_polygon(coco)
    report = _check_coco(coco, capsys, "--json")
    (found,) = json.loads(report.removeprefix("0 "))
    assert found["dataset"] == "mine" and found["sound"] is True
    assert (found["images"], found["objects"], found["crowd"]) == (3, 1, 1)
    assert found["classes"] == {"box": 0, "ball": 1}
    assert found["counts"] == {"polygon-short": 1}
    assert found["recommended"]["MODEL.MASK_FORMER.NUM_OBJECT_QUERIES"] == 20
    (finding,) = found["findings"]
    assert finding["code"] == "polygon-short" and finding["outcome"] == "left out"
    assert finding["file"].endswith("a.json") and finding["item"] == "annotation 3"


def test_refused_json_is_reported_for_machines_too(coco: Folder, capsys) -> None:
    _unknown_category(coco)
    report = _check_coco(coco, capsys, "--json")
    assert report.startswith("1 ")
    (found,) = json.loads(report.removeprefix("1 "))
    assert found["sound"] is False and found["counts"]["class-unknown"] == 1


def test_what_is_left_is_written_for_other_tools(coco: Folder, capsys) -> None:
    _short_polygon(coco)
    coco.content["annotations"][0] |= {"bbox": [2, 2, 90, 90], "area": 8100}
    coco.content["annotations"] += [_square(4, 2, 9), _square(5, 77, 9)]
    del coco.content["annotations"][3]["area"]
    fixed = coco.root / "fixed.json"
    report = _check_coco(coco, capsys, "--fix", str(fixed))
    assert report.startswith("0 ")
    content = json.loads(fixed.read_text())
    assert [a["id"] for a in content["annotations"]] == [1, 2, 4]
    assert content["annotations"][0]["bbox"] == [2, 2, 7, 7]
    assert [a["area"] for a in content["annotations"]] == [49, 49, 49]
    before = fixed.read_bytes()
    assert "exists; name a new file" in _check_coco(coco, capsys, "--fix", str(fixed))
    assert fixed.read_bytes() == before
    coco.content = content  # what was written is sound
    assert "0 on which training fails, 0 others" in _check_coco(coco, capsys)


def test_more_objects_than_the_model_has_queries(coco: Folder, capsys) -> None:
    coco.content["annotations"] = [_square(i, 0, 9) for i in range(7)]
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


def test_long_lists_are_cut(coco: Folder, capsys) -> None:
    coco.content["annotations"] = [_square(i, 0, 7) for i in range(30)]
    report = _check_coco(coco, capsys, "--limit", "4")
    assert report.count("FAILS") == 4
    assert "and 26 more [class-unknown] (--limit shows more)" in report


# Panoptic and semantic


def _panoptic(folder: Folder) -> dict[str, Any]:
    ids = np.zeros(SIZE, np.int64)
    ids[:10], ids[10:, :8], ids[15:, 20:] = 3, 700, 9
    for name in ("0", "1"):
        Image.fromarray(np.stack([ids % 256, ids // 256, ids * 0], 2).astype(np.uint8)).save(
            folder.root / f"{name}_pan.png"
        )
    segments = [
        {"id": 3, "category_id": 1, "area": 300, "iscrowd": 0},
        {"id": 700, "category_id": 2, "area": 80, "iscrowd": 0},
        {"id": 9, "category_id": 2, "area": 50, "iscrowd": 1},
    ]
    folder.content = {
        "categories": [
            {"id": 1, "name": "sky", "isthing": 0},
            {"id": 2, "name": "bird", "isthing": 1},
        ],
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(2)],
        "annotations": [
            {
                "image_id": i,
                "file_name": f"{i}_pan.png",
                "segments_info": [dict(segment) for segment in segments],
            }
            for i in range(2)
        ],
    }
    root = str(folder.root)
    return {"task": "panoptic", "annotations": f"{root}/a.json", "panoptic_root": root}


def test_sound_panoptic_maps_pass(folder: Folder, capsys) -> None:
    entry = _panoptic(folder)
    folder.write()
    report = folder.run(capsys, entry)
    assert report.startswith("0 mine: panoptic, 2 classes")
    assert "2 images, 4 objects or regions, 2 crowd regions" in report


@pytest.mark.parametrize(
    ("change", "finding", "fails"),
    [
        ({"id": 4}, "1_pan.png: segment 3: the segment has 300 pixels and is not listed", True),
        ({"id": 4}, "1_pan.png: segment 4: the segment is listed and has no pixel", False),
        ({"id": 700}, "a.json: image 1, segment 700: two segments have this id", True),
        (
            {"category_id": 8},
            "a.json: image 1, segment 3: has the category id 8, which is none",
            True,
        ),
        ({"area": 299}, "1_pan.png: segment 3: the area is 299, the mask has 300 pixels", False),
    ],
)
def test_panoptic_maps_that_disagree_with_the_json(
    folder: Folder, capsys, change: dict[str, int], finding: str, fails: bool
) -> None:
    entry = _panoptic(folder)
    folder.content["annotations"][1]["segments_info"][0].update(change)
    folder.write()
    report = folder.run(capsys, entry)
    assert report.startswith("1 " if "id" in change or fails else "0 ")
    (line,) = (line for line in report.splitlines() if finding in line)
    assert ("FAILS" if fails else "note") in line


def _semantic(folder: Folder, labels: np.ndarray) -> dict[str, Any]:
    (folder.root / "labels").mkdir()
    for name in folder.photos:
        Image.fromarray(labels).save(folder.root / "labels" / name)
    (folder.root / "photos").mkdir()
    root, folder.root = folder.root, folder.root / "photos"
    folder.write()
    folder.root = root
    return {
        "task": "sem_seg",
        "image_root": str(root / "photos"),
        "sem_seg_root": str(root / "labels"),
        "classes": ["sky", "sea"],
    }


@pytest.mark.parametrize(
    ("labels", "code", "text"),
    [
        ([0, 1, 255], 0, "3 images, 6 objects or regions"),
        ([0, 1, 2], 1, "FAILS  .*: has the labels 2, which are no class from 0 to 1 and not"),
        ([255, 255, 255], 1, "FAILS  .*: no pixel of the 3 label maps has a class"),
        ([255, 255, 255], 1, "note   .*: has no pixel with a class"),
        ([0, 255, 255], 1, "FAILS  .*: the label maps have nothing but 0, which .* 'sky', and 255"),
    ],
)
def test_labels_of_semantic_maps(folder: Folder, capsys, labels, code: int, text: str) -> None:
    array = np.array(labels, np.uint8)[np.arange(30) % 3][None].repeat(20, 0)
    report = folder.run(capsys, _semantic(folder, array))
    assert report.startswith(f"{code} mine: semantic, 2 classes")
    assert re.search(text, report)


def test_semantic_maps_of_another_size_are_found(folder: Folder, capsys) -> None:
    report = folder.run(capsys, _semantic(folder, np.zeros((20, 29), np.uint8)))
    assert report.startswith("1 ")
    assert "labels/0.png: expected 30x20 pixels" in report


# Video


def _video(folder: Folder) -> dict[str, Any]:
    folder.content = {
        "categories": [{"id": 1, "name": "box"}],
        "videos": [{"id": 4, "file_names": list(folder.photos), "height": 20, "width": 30}],
        "annotations": [
            {"id": i, "video_id": 4, "category_id": 1, "segmentations": [SQUARE, None, SQUARE]}
            for i in (8, 7)
        ],
    }
    return {"task": "video", "annotations": f"{folder.root}/a.json"}


def _lose_track(folder: Folder) -> None:
    folder.content["annotations"][0]["segmentations"] = [None] * 3


def _shorten_track(folder: Folder) -> None:
    folder.content["annotations"][0]["segmentations"] = [SQUARE]


def _unknown_video(folder: Folder) -> None:
    folder.content["annotations"][0]["video_id"] = 5


@pytest.mark.parametrize(
    ("spoil", "code", "finding"),
    [
        (_spoil_nothing, 0, "3 images, 2 objects or regions"),
        (_lose_track, 0, "annotation 8: it is seen in no frame"),
        (_shorten_track, 1, "annotation 8: segmentations: expected one for each of the 3 frames"),
        (_unknown_video, 0, "annotation 8: its video 5 is not listed"),
        (_remove_photo, 1, "1.png: Image file not found"),
    ],
)
def test_videos(folder: Folder, capsys, spoil, code: int, finding: str) -> None:
    entry = _video(folder)
    spoil(folder)
    folder.write()
    report = folder.run(capsys, entry)
    assert report.startswith(f"{code} ")
    (line,) = (line for line in report.splitlines() if finding in line)
    assert ("FAILS" in line) == bool(code)


def test_all_problems_of_a_file_are_listed_and_not_only_the_first(folder: Folder, capsys) -> None:
    entry = _video(folder)
    track, _ = folder.content["annotations"]
    folder.content["annotations"] += [track | {"id": 9, "category_id": 7}, track | {"id": 8}]
    folder.content["annotations"] += [track | {"id": 10, "segmentations": [SQUARE]}]
    folder.write()
    report = folder.run(capsys, entry)
    file = f"{folder.root}/a.json"
    assert report.count("FAILS") == 2
    assert f"FAILS  {file}: annotation 9: has the category id 7, which" in report
    assert f"FAILS  {file}: annotation 10: segmentations: expected one for each of" in report
    assert f"note   {file}: annotation 8: the id occurs more than once" in report


# Configs and names


def _config(coco: Folder, **keys: str) -> str:
    entry = f"{{name: mine, task: instance, image_root: {coco.root}, annotations: {coco.write()}}}"
    lines = ["DATASETS:", f"  CUSTOM: [{entry}]", '  TRAIN: ["mine"]', '  TEST: ["mine"]']
    lines += ["INPUT:", f"  DATASET_MAPPER_NAME: {keys.get('mapper', 'coco_instance_lsj')}"]
    (coco.root / "c.yaml").write_text("\n".join(lines))
    return str(coco.root / "c.yaml")


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
