"""COCO instance json: files of another form, crowds and boxes, sizes and names of photos."""

import json

import pytest
from PIL import Image

from mask2former.annotations import AnnotationError, read_instances
from tests.annotations.readers.instance_json import HEIGHT, SQUARE, WIDTH, changed, sound


def test_results_are_no_annotations(tmp_path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"image_id": 1, "score": 0.5}]))
    with pytest.raises(AnnotationError, match="looks like a list of results"):
        read_instances(tmp_path / "a.json")


def test_test_sets_have_no_annotations() -> None:
    content = sound()
    del content["annotations"]
    read = read_instances(content)
    assert not read.has_truth and len(read.findings) == 0


def test_ignore_counts_as_crowd() -> None:
    read = read_instances(changed("annotations", ignore=1))
    assert [entry["iscrowd"] for entry in read.content["annotations"]] == [1, 0]


def test_boxes_become_masks_where_that_is_wanted() -> None:
    content = changed("annotations", None, segmentation=[])
    read = read_instances(content, boxes_as_masks=True)
    assert read.content["annotations"][0]["segmentation"] == [SQUARE]
    assert dict(read.findings.counts) == {"mask-from-box": 2}
    content["annotations"][0]["bbox"] = None
    read = read_instances(content, boxes_as_masks=True)
    assert len(read.content["annotations"]) == 1 and read.findings.left_out()


def test_boxes_can_be_read_whatever_the_masks() -> None:
    content = changed("annotations", segmentation="nonsense")
    read = read_instances(content, need_masks=False)
    assert len(read.content["annotations"]) == 2 and len(read.findings) == 0


def test_sizes_are_read_from_the_files_as_photos_are_turned(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "1.png", exif=exif)
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "2.png")
    sizes = {True: (20, 30), False: (30, 20), None: (None, None)}
    for size in ({"height": ..., "width": ...}, {"height": -1, "width": 0}, {"height": None}):
        for exif_rotation, expected in sizes.items():
            content = changed("images", None, **size)
            read = read_instances(content, tmp_path, exif_rotation=exif_rotation)
            found = [(i.get("height"), i.get("width")) for i in read.content["images"]]
            assert found == [expected, (20, 30)]
            assert read.findings.counts == {"image-size": 2}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("sub\\1.png", "sub/1.png"),
        ("./sub/1.png", "./sub/1.png"),
        ("C:\\Users\\me\\photos\\sub\\1.png", "sub/1.png"),
        ("/home/me/photos/sub/1.png", "sub/1.png"),
    ],
)
def test_names_of_another_machine(tmp_path, name: str, found: str) -> None:
    (tmp_path / "sub").mkdir()
    for i in (1, 2):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "sub" / f"{i}.png")
    content = sound()
    for i, image in enumerate(content["images"], start=1):
        image["file_name"] = name.replace("1.png", f"{i}.png")
    read = read_instances(content, tmp_path, find_files=True)
    assert read.content["images"][0]["file_name"] == found
    assert not read.findings.of("refused")


def test_names_relative_to_the_json_and_what_was_tried(tmp_path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "root").mkdir()
    for i in (1, 2):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "img" / f"{i}.png")
    content = sound()
    for i, image in enumerate(content["images"], start=1):
        image["file_name"] = f"img/{i}.png"
    (tmp_path / "a.json").write_text(json.dumps(content))
    read = read_instances(tmp_path / "a.json", tmp_path / "root", find_files=True)
    assert read.content["images"][0]["file_name"] == str(tmp_path / "img" / "1.png")
    (tmp_path / "img" / "2.png").unlink()
    read = read_instances(tmp_path / "a.json", tmp_path / "root", find_files=True)
    with pytest.raises(AnnotationError, match=r"no file 'img/2.png'; tried .*root/img/2.png, "):
        read.findings.raise_refused()
