"""The demo as a service calls it: arrays in, results and pictures out, for all kinds of models."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from mask2former.config import load_config
from mask2former.data.datasets import register_all
from mask2former.data.synthetic import write_shapes
from mask2former.modeling.mask_classifier import SamPrompts
from mask2former.predict import (
    GROUND_TRUTH,
    Demo,
    MaskPredictor,
    MaskSource,
    Predictor,
    VideoPredictor,
)
from mask2former.visualization import draw
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.modeling.mask_classifier.small import rectangles, save_tiny_sam

CONFIGS = Path(__file__).resolve().parents[2] / "configs/shapes"
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.TIMM.PRETRAINED": "",
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 2,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 10,
    "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
    "MODEL.MASK_FORMER.TEST.OVERLAP_THRESHOLD": 0.0,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
    "INPUT.MIN_SIZE_TEST": 64,
}
SIZE = (40, 48)
BOXES = ((2, 3, 20, 30), (20, 5, 45, 18))


def config(name: str) -> CfgNode:
    torch.manual_seed(0)
    words = [word for pair in SMALL.items() for word in pair]
    return load_config(CONFIGS / name / "maskformer2_lite0.yaml", words)


@pytest.fixture(scope="module")
def images() -> Demo:
    return Demo(Predictor(config("panoptic"), array_format="RGB"), score_threshold=0.0)


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Three drawn images of 64 x 64 pixels, with panoptic ground truth."""
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})
    write_shapes(tmp_path / "datasets", seed=5, train=1, val=3, size=64, workers=1)
    register_all(str(tmp_path / "datasets"))
    return "shapes_val_panoptic"


def frames() -> Iterator[np.ndarray]:
    for t in range(6):
        image = np.full((64, 96, 3), 90, np.uint8)
        image[20:50, 10 + 5 * t : 40 + 5 * t] = (220, 60, 30)
        yield image


def test_an_image_in_a_result_and_a_picture_out(images: Demo, photo: np.ndarray) -> None:
    prediction, picture = images(photo)
    segment_map, segments = prediction["panoptic_seg"]
    assert segment_map.shape == SIZE and segments
    assert picture.shape == (400, 480, 3) and picture.dtype == np.uint8
    expected = draw(photo, prediction, images.predictor.metadata, "panoptic")
    np.testing.assert_array_equal(picture, expected)


def test_images_of_all_forms_give_the_same_picture(
    images: Demo, photo: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    expected = images(photo)[1]
    for image in (tmp_path / "a.png", Image.fromarray(photo)):
        np.testing.assert_array_equal(images(image)[1], expected)


def test_kind_and_thresholds(images: Demo, photo: np.ndarray) -> None:
    enlarged = photo.repeat(10, 0).repeat(10, 1)
    for kind in ("instance", "semantic"):
        some = Demo(images.predictor, kind=kind, score_threshold=0.0)(photo)[1]
        none = Demo(images.predictor, kind=kind, score_threshold=1.0, label_threshold=1.0)(photo)[1]
        assert (some != enlarged).any()
        np.testing.assert_array_equal(none, enlarged)


@pytest.mark.parametrize(("name", "kind"), [("video", "instances"), ("panoptic", "panoptic_seg")])
def test_frames_in_results_and_pictures_out(name: str, kind: str) -> None:
    demo = Demo(VideoPredictor(config(name), array_format="RGB", window=3))
    drawn = list(demo.draw_frames(frames()))
    assert len(drawn) == 6
    for image, (prediction, picture) in zip(frames(), drawn):
        assert kind in prediction and picture.shape == (256, 384, 3)
        expected = draw(image, prediction, demo.predictor.metadata, tracked=True)
        np.testing.assert_array_equal(picture, expected)
        assert (picture != image.repeat(4, 0).repeat(4, 1)).any()


@pytest.mark.parametrize("given", ["masks", "prompts"])
def test_masks_in_names_and_a_picture_out(given: str, photo: np.ndarray, tmp_path: Path) -> None:
    sam = save_tiny_sam(tmp_path)
    predictor = MaskPredictor(config("mask-classification"), array_format="RGB", sam=sam)
    values = {"masks": rectangles(*BOXES, size=SIZE), "prompts": SamPrompts(boxes=BOXES)}
    demo = Demo(predictor, kind="instance", score_threshold=0.0)
    prediction, picture = demo(photo, **{given: values[given]})
    assert len(prediction["class_logits"]) == 2
    assert picture.shape == (400, 480, 3)
    if given == "masks":
        assert (picture[50:280, 40:180] != photo.repeat(10, 0).repeat(10, 1)[50:280, 40:180]).any()


def test_files_become_a_page_with_results(images: Demo, dataset: str, tmp_path: Path) -> None:
    demo = Demo(images.predictor, score_threshold=0.0, dataset=dataset)
    assert len(demo.images) == 3
    page, *results = demo.draw_files(demo.images, tmp_path / "drawn", note="<3", save_json=True)
    assert "&lt;3" in page.read_text()
    assert [path.name for path in results] == ["instances.json", "panoptic.json", "semantic.json"]
    assert len(list((tmp_path / "drawn").glob("*_ground_truth.jpg"))) == 3
    ids = {entry["image_id"] for entry in json.loads(results[0].read_text())}
    assert ids == {record["image_id"] for record in DatasetCatalog.get(dataset)}


def test_masks_of_the_ground_truth(dataset: str, tmp_path: Path) -> None:
    predictor = MaskPredictor(config("mask-classification"), array_format="RGB")
    demo = Demo(predictor, score_threshold=0.0, dataset=dataset, masks=MaskSource(GROUND_TRUTH))
    _, results, *_ = demo.draw_files(demo.images[:1], tmp_path / "drawn", save_json=True)
    assert json.loads(results.read_text())
    demo = Demo(predictor, masks=MaskSource(GROUND_TRUTH))
    with pytest.raises(ValueError, match=r"the dataset has no masks for .*\.jpg"):
        demo.draw_files([DatasetCatalog.get(dataset)[0]["file_name"]], tmp_path / "drawn")


def test_damaged_images_are_errors_or_left_out(
    images: Demo, photo: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(photo).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:2000])
    files = [str(tmp_path / name) for name in ("bad.png", "good.png")]
    with pytest.raises(ValueError, match=r"bad\.png"):
        images.draw_files(files, tmp_path / "drawn")
    left_out = []
    (page,) = images.draw_files(files, tmp_path / "drawn", on_error=lambda *x: left_out.append(x))
    assert [file for file, _ in left_out] == files[:1]
    assert "good" in page.read_text() and "bad" not in page.read_text()


@pytest.mark.parametrize("label_threshold", [0.0, 0.1])
def test_scores_of_all_classes_are_computed_where_they_are_compared_with_a_threshold(
    images: Demo, photo: np.ndarray, tmp_path: Path, label_threshold: float
) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    outputs = []
    model = images.predictor.model
    hook = model.register_forward_hook(lambda module, args, output: outputs.extend(output))
    demo = Demo(images.predictor, label_threshold=label_threshold)
    demo.draw_files([str(tmp_path / "a.png")], tmp_path / "drawn", save_json=True)
    demo(photo)
    hook.remove()
    assert [output["sem_seg"].ndim for output in outputs] == [3 if label_threshold else 2, 3]


def test_images_larger_than_memory_are_left_out(
    images: Demo, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("large.png", "small.png"):
        Image.fromarray(photo).save(tmp_path / name)
    forward, errors = images.predictor.model.forward, [MemoryError("no memory")]
    model = images.predictor.model
    monkeypatch.setattr(model, "forward", lambda x: _raise(errors) if errors else forward(x))
    left_out = []
    files = [str(tmp_path / name) for name in ("large.png", "small.png")]
    (page,) = images.draw_files(files, tmp_path / "drawn", on_error=lambda *x: left_out.append(x))
    assert [Path(file).name for file, _ in left_out] == ["large.png"]
    assert "small" in page.read_text() and "large" not in page.read_text()
    errors.append(RuntimeError("a fault of ours"))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        images.draw_files(files, tmp_path / "drawn", on_error=lambda *x: left_out.append(x))


def _raise(errors: list[Exception]) -> None:
    raise errors.pop()


def test_nothing_is_printed(
    images: Demo, photo: np.ndarray, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    images.draw_files([str(tmp_path / "a.png")], tmp_path / "drawn", save_json=True)
    assert capfd.readouterr() == ("", "")


def test_predictors_that_do_not_fit(images: Demo, photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a VideoPredictor, got a Predictor"):
        images.draw_frames([photo])
    video = VideoPredictor(config("panoptic"), array_format="RGB")
    with pytest.raises(ValueError, match="one for videos: give frames to draw_frames"):
        Demo(video)(photo)
    video.array_format = "BGR"
    with pytest.raises(ValueError, match="expected a predictor with array_format='RGB'.*'BGR'"):
        Demo(video)
    with pytest.raises(ValueError, match="there is no dataset named 'nowhere'"):
        Demo(images.predictor, dataset="nowhere")
    with pytest.raises(ValueError, match="cannot draw depth: the model gives panoptic"):
        Demo(images.predictor, kind="depth")(photo)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_results_outlive_what_ends_the_drawing(
    images: Demo,
    photo: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    files = [str(tmp_path / f"{i}.png") for i in range(4)]
    for file in files:
        Image.fromarray(photo).save(file)
    predict = images._predict
    failing = iter([predict, predict, None])

    def ends(file: str) -> object:
        step = next(failing)
        if step is None:
            raise error
        return step(file)

    monkeypatch.setattr(images, "_predict", ends)
    with pytest.raises(error):
        images.draw_files(files, tmp_path / "out", save_json=True)
    entries = json.loads((tmp_path / "out/instances.json").read_text())
    assert {entry["file_name"] for entry in entries} == set(files[:2])
    assert len(json.loads((tmp_path / "out/panoptic.json").read_text())["images"]) == 2
    page = (tmp_path / "out/index.html").read_text()
    assert "1_prediction.jpg" in page and "2_prediction.jpg" not in page


def test_results_are_there_after_a_kill(
    images: Demo, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is saved now and then is complete: nothing that comes after a kill is needed."""
    files = [str(tmp_path / f"{i}.png") for i in range(3)]
    for file in files:
        Image.fromarray(photo).save(file)
    monkeypatch.setattr("mask2former.predict.saving._SECONDS_BETWEEN_SAVES", 0)
    predict, seen = images._predict, []

    def watched(file: str) -> object:
        path = tmp_path / "out/instances.json"
        entries = json.loads(path.read_text()) if path.exists() else []
        seen.append({entry["file_name"] for entry in entries})
        return predict(file)

    monkeypatch.setattr(images, "_predict", watched)
    images.draw_files(files, tmp_path / "out", save_json=True)
    assert seen == [set(), set(files[:1]), set(files[:2])]
    entries = json.loads((tmp_path / "out/instances.json").read_text())
    assert {entry["file_name"] for entry in entries} == set(files)
