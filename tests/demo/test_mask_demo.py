"""--masks of the demo: named masks from files, from the ground truth and from SAM; bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mask2former.formats.rle import encode_masks
from tests.demo.test_demo import CONFIGS, Run, picture, results, runner
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.modeling.mask_classifier.small import rectangles, save_tiny_sam

CONFIG = CONFIGS / "mask-classification" / "maskformer2_lite0.yaml"
SIZE = (40, 48)
BOXES = ((2, 3, 20, 30), (20, 5, 45, 18), (22, 20, 40, 39))


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(CONFIG, tmp_path, capsys)


@pytest.fixture
def masks_json(tmp_path: Path) -> Path:
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(encode_masks(rectangles(*BOXES, size=SIZE))))
    return path


@pytest.fixture(scope="module")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam(tmp_path_factory.mktemp("sam"))


def found_boxes(tmp_path: Path) -> set[tuple[float, ...]]:
    return {tuple(entry["bbox"]) for entry in results(tmp_path, "instances")}


def as_xywh(boxes: tuple[tuple[int, ...], ...]) -> set[tuple[float, ...]]:
    return {(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes}


def test_masks_of_a_json_file(tmp_path: Path, photo: Path, masks_json: Path, run: Run) -> None:
    args = ("--input", photo, "--masks", masks_json, "--confidence-threshold", "0")
    code, out = run(*args, **{"TEST.DETECTIONS_PER_IMAGE": 100})
    assert code == 0
    assert f"results: {tmp_path / 'out' / 'instances.json'}" in out
    assert found_boxes(tmp_path) == as_xywh(BOXES)
    entries = results(tmp_path, "instances")
    assert {e["category_id"] for e in entries} <= set(range(1, 7))
    assert all(0 < e["score"] < 1 and e["segmentation"]["size"] == list(SIZE) for e in entries)
    enlarged = picture(photo).repeat(10, 0).repeat(10, 1)
    drawn = picture(tmp_path / "out" / "photo_prediction.jpg")
    assert np.abs(drawn.astype(int) - enlarged).mean() > 20
    assert results(tmp_path, "panoptic")["images"][0]["width"] == 48


def test_masks_of_a_png(tmp_path: Path, photo: Path, run: Run) -> None:
    labels = np.zeros(SIZE, np.uint8)
    for i, mask in enumerate(rectangles(*BOXES, size=SIZE).numpy(), start=1):
        labels[mask] = 9 * i
    Image.fromarray(labels).save(tmp_path / "labels.png")
    args = ("--input", photo, "--masks", tmp_path / "labels.png", "--confidence-threshold", "0")
    assert run(*args, **{"TEST.DETECTIONS_PER_IMAGE": 100})[0] == 0
    assert found_boxes(tmp_path) == as_xywh(BOXES)


def test_a_folder_with_masks_of_each_image(tmp_path: Path, photo: Path, run: Run) -> None:
    (tmp_path / "masks").mkdir()
    for name, box in (("photo", BOXES[0]), ("second", BOXES[1])):
        Image.open(photo).save(tmp_path / f"{name}.png")
        mask = rectangles(box, size=SIZE).numpy()[0]
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    inputs = (tmp_path / "photo.png", tmp_path / "second.png")
    args = ("--input", *inputs, "--masks", tmp_path / "masks", "--confidence-threshold", "0")
    assert run(*args)[0] == 0
    by_image: dict[int, set] = {}
    for entry in results(tmp_path, "instances"):
        by_image.setdefault(entry["image_id"], set()).add(tuple(entry["bbox"]))
    assert by_image == {1: as_xywh(BOXES[:1]), 2: as_xywh(BOXES[1:2])}


def test_masks_of_the_ground_truth(tmp_path: Path, shapes: Path, run: Run) -> None:
    args = ("--dataset", "shapes_val_panoptic", "--masks", "ground-truth")
    opts = {"TEST.DETECTIONS_PER_IMAGE": 100, "INPUT.MIN_SIZE_TEST": 64}
    assert run(*args, "--confidence-threshold", "0", **opts)[0] == 0
    truth = COCO(shapes / "annotations" / "instances_val.json")
    found = results(tmp_path, "instances")
    assert {e["image_id"] for e in found} == set(truth.getImgIds())
    masks = {(e["image_id"], e["segmentation"]["counts"]) for e in found}
    for annotation in truth.anns.values():
        assert (annotation["image_id"], annotation["segmentation"]["counts"]) in masks


def test_sam_with_points_and_boxes(tmp_path: Path, photo: Path, sam: Path, run: Run) -> None:
    prompts = ("--points", "5,7", "30.5,20", "--boxes", "2,3,30,38")
    args = ("--input", photo, "--masks", "sam", "--sam-weights", sam, *prompts)
    assert run(*args, "--confidence-threshold", "0")[0] == 0
    found = results(tmp_path, "instances")
    assert found and all(e["segmentation"]["size"] == list(SIZE) for e in found)


def test_sam_on_a_grid(tmp_path: Path, photo: Path, sam: Path, run: Run) -> None:
    args = ("--input", photo, "--masks", "sam", "--sam-weights", sam, "--grid", "2")
    assert run(*args, "--confidence-threshold", "0")[0] == 0
    assert results(tmp_path, "instances") == []  # random weights make no good masks
    assert run(*args, "--sam-thresholds", "0", "0", "--confidence-threshold", "0")[0] == 0
    assert results(tmp_path, "instances")


# Bad input


def test_no_masks_at_all(tmp_path: Path, photo: Path, run: Run) -> None:
    (tmp_path / "masks.json").write_text("[]")
    code, out = run("--input", photo, "--masks", tmp_path / "masks.json")
    assert code == 0 and "1 of 1 images drawn" in out
    assert results(tmp_path, "instances") == []


def test_masks_of_another_size_leave_one_image_out(
    tmp_path: Path, photo: Path, masks_json: Path, run: Run
) -> None:
    Image.open(photo).resize((20, 20)).save(tmp_path / "small.png")
    args = ("--input", photo, tmp_path / "small.png", "--masks", masks_json)
    code, error = run(*args)
    assert code == 1 and error.count("left out") == 1
    assert "small.png: mask 0: " in error and "has masks of 48x40 pixels" in error
    assert (tmp_path / "out" / "photo_prediction.jpg").is_file()


def test_prompts_outside_of_the_image(photo: Path, sam: Path, run: Run) -> None:
    args = ("--input", photo, "--masks", "sam", "--sam-weights", sam)
    code, error = run(*args, "--points", "48,3")
    assert code == 1 and "the point 48,3 lies outside of the image: the image is 48 wide" in error
    code, error = run(*args, "--boxes", "5,5,50,20")
    assert code == 1 and "the box 5,5,50,20 does not lie inside the image" in error


def errors(folder: Path) -> list[tuple[tuple[Any, ...], str]]:
    other = ("--config-file", CONFIGS / "panoptic" / "maskformer2_lite0.yaml")
    return [
        (("--masks", "sam"), "--masks sam needs --sam-weights"),
        (("--masks", "sam", "--sam-weights", folder / "none"), "none has no config.json"),
        (("--masks", "sam", "--sam-weights", folder), "expected a SAM model"),
        ((*other, "--masks", "masks.json"), "MODEL.META_ARCHITECTURE is MaskClassifier"),
    ]


@pytest.mark.parametrize("case", range(4))
def test_errors(run: Run, tmp_path: Path, photo: Path, case: int) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "sam2"}')
    args, message = errors(tmp_path)[case]
    code, error = run("--input", photo, *args)
    assert code == 2
    last = error.strip().splitlines()[-1]
    assert last.startswith("demo.py: error: ") and message in last


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--points", "1,2"), "belong to --masks sam"),
        (("--masks", "a.json", "--boxes", "1,2,3,4"), "belong to --masks sam"),
        (("--masks", "sam", "--points", "1,x"), "argument --points: invalid numbers value: '1,x'"),
        (("--masks", "ground-truth"), "takes the masks of --dataset, which is missing"),
    ],
)
def test_arguments_that_make_no_sense(
    run: Run, capsys: pytest.CaptureFixture[str], args: tuple, message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--input", "a.png", *args)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_classifier_of_masks_without_masks(photo: Path, run: Run) -> None:
    code, error = run("--input", photo)
    assert code == 1 and "expected `masks` (N, H, W) to classify" in error
