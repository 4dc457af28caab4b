"""The checker on panoptic and semantic maps and on videos."""

import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.check.folder import SIZE, SQUARE, Folder

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


# Videos


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


def _spoil_nothing(coco: Folder) -> None:
    pass


def _remove_photo(coco: Folder) -> None:
    coco.photos.pop("1.png")


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
