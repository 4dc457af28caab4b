"""Masks from files: every form that tools write, and files that fit nothing."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from PIL import Image

from mask2former.annotations.readers.given_masks import (
    LabelMasks,
    MaskFile,
    RleMasks,
    find_mask_file,
)

SIZE = (6, 8)
MASKS = np.zeros((3, *SIZE), bool)
MASKS[0, 1:4, 2:7] = True
MASKS[1, 5, 0] = True
MASKS[2, :, 4:] = True


def rle(mask: np.ndarray, form: str = "text") -> dict[str, Any]:
    if form == "list":
        pixels = mask.T.ravel()
        places = np.flatnonzero(np.diff(pixels, prepend=False))
        return {"size": list(mask.shape), "counts": np.diff([0, *places, pixels.size]).tolist()}
    code = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": code["counts"].decode()}


@pytest.fixture
def write(tmp_path: Path):
    def call(content: Any, name: str = "masks.json") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return call


def everything(masks: Any) -> np.ndarray:
    return masks[torch.arange(len(masks))].numpy()


def entries(**more: Any) -> list[dict[str, Any]]:
    return [{"segmentation": rle(mask), **more} for mask in MASKS]


# Forms


@pytest.mark.parametrize("form", ["text", "list"])
def test_a_list_of_bare_rle(write, form: str):
    path = write([rle(mask, form) for mask in MASKS])
    masks, scores = MaskFile(path).of_image("a.jpg", SIZE)
    assert masks.shape == (3, *SIZE) and len(masks) == 3
    assert np.array_equal(everything(masks), MASKS)
    assert scores is None


def test_polygons(write):
    path = write([{"segmentation": [[2, 1, 7, 1, 7, 4, 2, 4]]}, {"segmentation": [[0, 0, 1, 1]]}])
    masks, _ = MaskFile(path).of_image("a.jpg", SIZE)
    assert np.array_equal(everything(masks), MASKS[:1])  # half a polygon is none


def test_results_of_several_images_by_id(write):
    path = write(
        [*entries(image_id=5, score=0.5), {"segmentation": rle(MASKS[2]), "image_id": "7"}]
    )
    masks, scores = MaskFile(path).of_image("a.jpg", SIZE, image_id=7)
    assert np.array_equal(everything(masks), MASKS[2:]) and scores is None
    masks, scores = MaskFile(path).of_image("a.jpg", SIZE, image_id="5")
    assert len(masks) == 3 and scores.tolist() == [0.5] * 3
    with pytest.raises(ValueError, match=r"masks of 2 images \(5, 7, ...\), none .* image_id 6"):
        MaskFile(path).of_image("a.jpg", SIZE, image_id=6)
    assert len(MaskFile(path).of_image("a.jpg", SIZE, image_id=6, missing_ok=True)[0]) == 0


def test_results_with_names_of_images(write):
    path = write([*entries(file_name="x/a.jpg"), {"segmentation": rle(MASKS[2]), "file_name": "b"}])
    assert len(MaskFile(path).of_image("elsewhere/a.jpg", SIZE, image_id=3)[0]) == 3
    assert len(MaskFile(path).of_image("b", SIZE)[0]) == 1
    with pytest.raises(ValueError, match=r"\(a.jpg, b, ...\), none of them named c.jpg"):
        MaskFile(path).of_image("c.jpg", SIZE)


def test_ground_truth_in_coco_form(write):
    images = [{"id": i, "file_name": f"{n}.jpg"} for i, n in ((1, "a"), (2, "b"), (3, "empty"))]
    annotations = entries(image_id=1)
    annotations += [{"segmentation": rle(MASKS[0]), "image_id": 2, "iscrowd": 1}]
    file = MaskFile(write({"images": images, "annotations": annotations}))
    counts = {n: len(file.of_image(f"{n}.jpg", SIZE)[0]) for n in ("a", "b", "empty")}
    assert counts == {"a": 3, "b": 0, "empty": 0}  # crowd is no mask


def test_an_image_of_sa_1b(write):
    image = {"image_id": 10, "file_name": "sa_10.jpg", "height": 6, "width": 8}
    annotations = [{**e, "predicted_iou": 0.75 + i} for i, e in enumerate(entries())]
    file = MaskFile(write({"image": image, "annotations": annotations}))
    masks, scores = file.of_image("sa_10.jpg", SIZE)
    assert len(masks) == 3 and scores.tolist() == [0.75, 1, 1]
    assert len(file.of_image("renamed.jpg", SIZE)[0]) == 3  # it can mean no other image


def test_masks_are_read_in_any_order():
    masks = RleMasks([{"segmentation": rle(mask)} for mask in MASKS], SIZE)
    assert np.array_equal(masks[torch.tensor([2, 0])].numpy(), MASKS[[2, 0]])
    assert masks[[]].shape == (0, *SIZE)


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "RGB", "RGBA"])
def test_label_maps(tmp_path: Path, mode: str):
    labels = np.zeros(SIZE, np.int64)
    labels[0:2] = 3
    labels[4:, 5:] = 200
    if mode == "I;16":
        image = Image.fromarray(labels.astype(np.uint16))
    elif mode.startswith("RGB"):
        image = Image.fromarray(np.stack([labels, labels * 0, labels], 2).astype(np.uint8))
        image = image.convert(mode)
    else:
        image = Image.fromarray(labels.astype(np.uint8))
        if mode == "P":
            image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "a.png")
    masks, scores = MaskFile(tmp_path / "a.png").of_image("any.jpg", SIZE)
    assert len(masks) == 2 and scores is None
    assert np.array_equal(everything(masks), np.stack([labels == 3, labels == 200]))


def test_a_binary_mask_is_one(tmp_path: Path):
    Image.fromarray(MASKS[0]).save(tmp_path / "a.png")
    masks, _ = MaskFile(tmp_path / "a.png").of_image("any.jpg", SIZE)
    assert np.array_equal(everything(masks), MASKS[:1])


def test_a_folder_has_a_file_for_each_image(tmp_path: Path):
    (tmp_path / "a.json").touch()
    (tmp_path / "b.png").touch()
    assert find_mask_file(tmp_path, "x/a.jpg") == tmp_path / "a.json"
    assert find_mask_file(tmp_path, "b.jpg") == tmp_path / "b.png"
    assert find_mask_file(tmp_path / "a.json", "b.jpg") == tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match="has no c.json or .png"):
        find_mask_file(tmp_path, "c.jpg")


# Bad input


def test_masks_of_another_size(write, tmp_path: Path):
    message = re.escape("has masks of 8x6 pixels (width x height), the image has 6x8")
    with pytest.raises(ValueError, match=f"mask 0: .*masks.json {message}"):
        MaskFile(write(entries())).of_image("a.jpg", SIZE[::-1])
    Image.fromarray(MASKS[0]).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=f"a.png {message}"):
        MaskFile(tmp_path / "a.png").of_image("a.jpg", SIZE[::-1])


def test_no_masks_at_all(write, tmp_path: Path):
    assert len(MaskFile(write([])).of_image("a.jpg", SIZE)[0]) == 0
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "a.png")
    assert len(MaskFile(tmp_path / "a.png").of_image("a.jpg", SIZE)[0]) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "masks.json: expected a json file"),
        ({"masks": []}, "expected a list of masks, or a COCO json with `annotations`"),
        ("3", "expected a list of masks"),
        ([3], "mask 0: expected an RLE, or an entry with `segmentation`"),
        ([{"bbox": [1, 2, 3, 4]}], "mask 0: expected an RLE"),
    ],
)
def test_json_of_other_forms(write, content: Any, message: str):
    with pytest.raises(ValueError, match=message):
        MaskFile(write(content))


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (
            {"size": [6, 8], "counts": "0"},
            r"masks.json: mask 0: its RLE cannot be used \(.*1 runs over 0 of 48",
        ),
        ({"size": [6, 8], "counts": "0ooo"}, "masks.json: .*cut short"),
        ({"size": [6, 8], "counts": [40, 40]}, "mask 0: its RLE cannot be used"),
        ({"size": [6, 8]}, "mask 0: its RLE cannot be used"),
        ("1 2 3", "mask 0: expected polygons or an RLE"),
        ([[1, 2, "x", 4, 5, 6]], "mask 0: a polygon has a coordinate that is no number"),
    ],
)
def test_damaged_masks_are_left_out(write, segmentation: Any, message: str, caplog):
    damaged = {"segmentation": segmentation}
    with pytest.raises(ValueError, match=message):
        MaskFile(write([damaged]))
    caplog.clear()
    masks, _ = MaskFile(write([damaged, entries()[0]])).of_image("a.jpg", SIZE)
    assert len(masks) == 1
    assert re.search(message, caplog.text)


def test_a_photo_is_no_map_of_labels(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"photo.png: 1\d+ different values .* to be a photo"):
        MaskFile(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match="text.png: not an image"):
        MaskFile(tmp_path / "text.png")
    with pytest.raises(FileNotFoundError, match="there is no file .*none.json"):
        MaskFile(tmp_path / "none.json")


def test_labels_by_number():
    masks = LabelMasks(np.array([[9, 0], [2, 9]]))
    assert masks.values.tolist() == [2, 9]
    assert masks[torch.tensor([1])].tolist() == [[[True, False], [False, True]]]
