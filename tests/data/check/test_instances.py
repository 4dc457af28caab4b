"""The checker on instance json: what training fails on, what it goes on with, and what is left."""

import json

import numpy as np
import pytest

from tests.data.check.folder import SQUARE, Folder, check_coco, square

# What training fails on


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
    report = check_coco(coco, capsys)
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


# What training goes on with


def _short_polygon(coco: Folder) -> None:
    coco.content["annotations"][2]["segmentation"] = [[1, 1, 5, 5]]


def _short_and_long_polygon(coco: Folder) -> None:
    coco.content["annotations"][2]["segmentation"] = [[1, 1, 5, 5], *SQUARE]


def _empty_mask(coco: Folder) -> None:
    coco.content["annotations"][2]["segmentation"] = [[3.1, 3.1, 3.2, 3.1, 3.2, 3.2]]


def _no_area(coco: Folder) -> None:
    del coco.content["annotations"][2]["area"]


def _annotation_of_no_image(coco: Folder) -> None:
    coco.content["annotations"].append(square(4, 77, 5))


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
    report = check_coco(coco, capsys)
    assert report.startswith("0 ")
    (line,) = (line for line in report.splitlines() if finding in line)
    assert line.startswith("  note   ")


# What is reported and written


def test_findings_for_machines(coco: Folder, capsys) -> None:
    _short_polygon(coco)
    report = check_coco(coco, capsys, "--json")
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
    report = check_coco(coco, capsys, "--json")
    assert report.startswith("1 ")
    (found,) = json.loads(report.removeprefix("1 "))
    assert found["sound"] is False and found["counts"]["class-unknown"] == 1


def test_what_is_left_is_written_for_other_tools(coco: Folder, capsys) -> None:
    _short_polygon(coco)
    coco.content["annotations"][0] |= {"bbox": [2, 2, 90, 90], "area": 8100}
    coco.content["annotations"] += [square(4, 2, 9), square(5, 77, 9)]
    del coco.content["annotations"][3]["area"]
    fixed = coco.root / "fixed.json"
    report = check_coco(coco, capsys, "--fix", str(fixed))
    assert report.startswith("0 ")
    content = json.loads(fixed.read_text())
    assert [a["id"] for a in content["annotations"]] == [1, 2, 4]
    assert content["annotations"][0]["bbox"] == [2, 2, 7, 7]
    assert [a["area"] for a in content["annotations"]] == [49, 49, 49]
    before = fixed.read_bytes()
    assert "exists; name a new file" in check_coco(coco, capsys, "--fix", str(fixed))
    assert fixed.read_bytes() == before
    coco.content = content  # what was written is sound
    assert "0 on which training fails, 0 others" in check_coco(coco, capsys)


def test_long_lists_are_cut(coco: Folder, capsys) -> None:
    coco.content["annotations"] = [square(i, 0, 7) for i in range(30)]
    report = check_coco(coco, capsys, "--limit", "4")
    assert report.count("FAILS") == 4
    assert "and 26 more [class-unknown] (--limit shows more)" in report
