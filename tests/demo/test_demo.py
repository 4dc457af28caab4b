"""The demo script in this process: images of all kinds, thresholds, result files, errors."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools.coco import COCO

from demo import demo
from mask2former.data.datasets import register_all
from mask2former.evaluation import pq_compute
from mask2former.formats.images import find_images
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)

CONFIGS = Path(__file__).resolve().parents[2] / "configs/shapes"
CONFIG = CONFIGS / "panoptic" / "maskformer2_lite0.yaml"
SMALL = {
    "MODEL.DEVICE": "cpu",
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
ONLY = {f"MODEL.MASK_FORMER.TEST.{kind}_ON": False for kind in ("PANOPTIC", "INSTANCE", "SEMANTIC")}

Run = Callable[..., tuple[int, str]]


def runner(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls the script with a small model of random weights; output goes to tmp_path/out.

    Returns the exit code and what was written to stdout, or to stderr where the code is not 0.
    """

    def call(*args: object, **opts: object) -> tuple[int, str]:
        words = [str(word) for pair in (SMALL | opts).items() for word in pair]
        argv = ["--config-file", str(config), *map(str, args)]
        if "--output" not in argv:
            argv += ["--output", str(tmp_path / "out")]
        code = demo.main([*argv, "--opts", *words])
        captured = capsys.readouterr()
        return code, captured.err if code else captured.out

    return call


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(CONFIG, tmp_path, capsys)


def results(tmp_path: Path, kind: str) -> Any:
    return json.loads((tmp_path / "out" / f"{kind}.json").read_text())


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_images_of_all_kinds(tmp_path: Path, photo: Path, run: Run) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    colour = Image.open(photo)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    colour.save(folder / "turned.jpg", exif=exif)
    colour.convert("L").save(folder / "grey.png")
    colour.convert("RGBA").save(folder / "transparent.png")
    colour.resize((1, 1)).save(folder / "dot.png")
    (folder / "broken.png").write_bytes(photo.read_bytes()[:2000])
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")

    code, error = run("--input", folder)
    assert code == 1
    assert re.search(rf"demo\.py: left out {folder}/broken\.png: Cannot read .* damaged", error)
    out = tmp_path / "out"
    names = ["dot", "grey", "transparent", "turned"]
    wanted = {f"{name}_{column}.jpg" for name in names for column in ("input", "prediction")}
    assert {path.name for path in out.iterdir()} == wanted | {"index.html"}
    assert picture(out / "turned_input.jpg").shape == (48, 40, 3)
    assert picture(out / "turned_prediction.jpg").shape == (480, 400, 3)
    grey = picture(out / "grey_input.jpg")
    assert grey.shape == (40, 48, 3) and np.ptp(grey, axis=-1).max() <= 2
    page = (out / "index.html").read_text()
    assert [page.index(f"{name}_prediction.jpg") for name in names] == sorted(
        page.index(f"{name}_prediction.jpg") for name in names
    )
    assert "broken" not in page and "random weights" in page


def test_long_names_and_large_photos(tmp_path: Path, photo: Path, run: Run) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    name = "a" * 246
    photo.rename(folder / f"{name}.png")
    Image.new("RGB", (100, 100)).save(folder / "large.png")
    code, error = run("--input", folder, "--save-json", "--max-pixels", 9999)
    assert code == 1 and re.search(r"left out .*large\.png: .* too large .*MAX_PIXELS", error)
    (drawn,) = (tmp_path / "out").glob("*_prediction.jpg")
    page = (tmp_path / "out" / "index.html").read_text()
    assert drawn.name in page and f"Input: {name}" in page
    assert run("--input", folder, "--max-pixels", 10_000)[0] == 0


def test_which_files_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/2.JPG", "b/1.png", "b/note.txt", "b/.png", "c/3.png", "c/d/4.tif", "[x].png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "c" / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_images(["b"]) == ["b/1.png", "b/2.JPG"]
    assert find_images(["c/*.png"]) == ["c/3.png"]
    assert find_images(["c/**/*.*"]) == ["c/3.png", "c/d/4.tif"]
    assert find_images(["[x].png", "b/note.txt"]) == ["[x].png", "b/note.txt"]
    assert find_images(["c/3.png", "b", "b/1.png"]) == ["c/3.png", "b/1.png", "b/2.JPG"]
    for item in ("none.png", "c/d/*.jpg", "c/folder.png"):
        with pytest.raises(FileNotFoundError, match=re.escape(f"--input {item}: no such file")):
            find_images(["b", item])


def test_threshold_of_instances(tmp_path: Path, photo: Path, run: Run) -> None:
    config = CONFIGS / "instance" / "maskformer2_lite0.yaml"
    enlarged = picture(photo).repeat(10, 0).repeat(10, 1)
    for threshold in (None, "0", "1"):
        chosen = [] if threshold is None else ["--confidence-threshold", threshold]
        code, _ = run("--config-file", config, "--input", photo, "--save-json", *chosen)
        assert code == 0
        # Random weights are sure of nothing, so that the default of 0.5 leaves all out.
        assert bool(results(tmp_path, "instances")) == (threshold == "0")
        drawn = picture(tmp_path / "out" / "photo_prediction.jpg")
        assert (np.abs(drawn.astype(int) - enlarged).mean() > 20) == (threshold == "0")


def test_threshold_of_panoptic_segments(tmp_path: Path, photo: Path, run: Run) -> None:
    panoptic = ONLY | {"MODEL.MASK_FORMER.TEST.PANOPTIC_ON": True}
    found = {}
    for threshold in (None, "0.9"):
        chosen = [] if threshold is None else ["--confidence-threshold", threshold]
        assert run("--input", photo, "--save-json", *chosen, **panoptic)[0] == 0
        (entry,) = results(tmp_path, "panoptic")["annotations"]
        found[threshold] = len(entry["segments_info"])
    assert found[None] > 0 and found["0.9"] == 0


def test_threshold_of_semantic_labels(tmp_path: Path, photo: Path, run: Run) -> None:
    for threshold, some in (("0", True), ("1", False)):
        code, _ = run("--input", photo, "--save-json", "--confidence-threshold", threshold)
        assert code == 0
        assert bool(results(tmp_path, "semantic")) == some


def test_kinds_are_drawn_differently(tmp_path: Path, photo: Path, run: Run) -> None:
    drawn = []
    for kind in ("panoptic", "instance", "semantic"):
        args = ("--input", photo, "--draw", kind, "--confidence-threshold", "0", "--output")
        assert run(*args, tmp_path / kind, SEED=1)[0] == 0
        drawn.append(picture(tmp_path / kind / "photo_prediction.jpg").astype(int))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(drawn[one] - drawn[other]).mean() > 1


def test_a_dataset_beside_its_ground_truth(tmp_path: Path, shapes: Path, run: Run) -> None:
    args = ("--dataset", "shapes_val_panoptic", "--save-json", "--confidence-threshold", "0")
    code, out = run(*args)
    assert code == 0
    folder = tmp_path / "out"
    assert f"3 of 3 images drawn: {folder / 'index.html'}" in out
    for kind in ("instances", "panoptic", "semantic"):
        assert f"results: {folder / kind}.json" in out
    # The truth covers nearly all of an image, so that hardly a pixel keeps its colour.
    images = sorted((shapes / "images" / "val").iterdir())
    for path in images:
        truth = picture(folder / f"{path.stem}_ground_truth.jpg")
        enlarged = picture(path).repeat(6, 0).repeat(6, 1)
        assert (np.abs(truth.astype(int) - enlarged).sum(-1) > 20).mean() > 0.8
    # Results are identified by the dataset's ids, so that other tools can score them.
    truth = COCO(shapes / "annotations" / "instances_val.json")
    loaded = truth.loadRes(str(folder / "instances.json"))
    assert set(loaded.getImgIds()) == set(truth.getImgIds())
    assert {a["image_id"] for a in loaded.anns.values()} <= set(truth.getImgIds())
    quality = pq_compute(
        shapes / "annotations" / "panoptic_val.json",
        folder / "panoptic.json",
        gt_folder=shapes / "panoptic_val",
    )
    assert 0 <= quality["All"]["pq"] < 0.5
    assert {entry["file_name"] for entry in results(tmp_path, "semantic")} <= set(map(str, images))


def test_inputs_with_and_without_ground_truth(
    tmp_path: Path, shapes: Path, photo: Path, run: Run
) -> None:
    first, second, _ = sorted((shapes / "images" / "val").iterdir())
    args = ("--dataset", "shapes_val_instance", "--input", second, photo, "--save-json")
    assert run(*args)[0] == 0
    names = {path.name for path in (tmp_path / "out").glob("*ground_truth*")}
    assert names == {f"{second.stem}_ground_truth.jpg"}
    assert [image["id"] for image in results(tmp_path, "panoptic")["images"]] == [1, 2]
    assert run("--dataset", "shapes_val_sem_seg", "--max-images", "1", "--output", tmp_path)[0] == 0
    assert {path.name for path in tmp_path.glob("*ground_truth*")} == {
        f"{first.stem}_ground_truth.jpg"
    }


def test_damaged_ground_truth_leaves_one_image_out(shapes: Path, run: Run) -> None:
    damaged = sorted((shapes / "panoptic_val").iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:60])
    code, error = run("--dataset", "shapes_val_panoptic")
    assert code == 1
    assert error.count("left out") == 1 and str(damaged) in error


@pytest.mark.parametrize(
    ("args", "opts", "message"),
    [
        (("--input", "none.png"), {}, "--input none.png: no such file"),
        (("--dataset", "shapes_val_panoptik"), {}, "there is no dataset named"),
        (("--input", CONFIG), {"MODEL.MASKFORMER": 1}, "there is no config key MODEL.MASKFORMER"),
        (("--input", CONFIG), {"MODEL.WEIGHTS": "none.pth"}, "none.pth"),
        (("--input", CONFIG, "--config-file", "none.yaml"), {}, "none.yaml"),
    ],
)
def test_errors(run: Run, tmp_path: Path, args: tuple, opts: dict, message: str) -> None:
    code, error = run(*args, **opts)
    assert code == 2
    last = error.strip().splitlines()[-1]
    assert last.startswith("demo.py: error: ") and message in last
    assert not (tmp_path / "out" / "index.html").exists()


def test_missing_dataset_says_how_to_make_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DatasetCatalog, "data", {})
    monkeypatch.setattr(MetadataCatalog, "data", {})
    register_all(str(tmp_path))
    code, error = run("--dataset", "shapes_val_panoptic")
    assert code == 2 and "python datasets/prepare_shapes.py --output" in error


def test_output_that_cannot_be_written(run: Run, tmp_path: Path, photo: Path) -> None:
    (tmp_path / "file").write_text("")
    code, error = run("--input", photo, "--output", tmp_path / "file")
    assert code == 2 and f"folder '{tmp_path / 'file'}' cannot be written" in error


def test_kinds_that_the_model_does_not_give(run: Run, photo: Path) -> None:
    semantic = ONLY | {"MODEL.MASK_FORMER.TEST.SEMANTIC_ON": True}
    code, error = run("--input", photo, photo.parent, "--draw", "instance", **semantic)
    assert code == 2 and error.count("cannot draw instance: the model gives semantic") == 1


def test_errors_in_full_for_developers(
    run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASK2FORMER_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        run("--input", photo.parent / "none.png")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "give --input, --video-input, or --dataset"),
        (("--input", "a", "--confidence-threshold", "1.5"), "in 0 to 1, got 1.5"),
        (("--input", "a", "--max-images", "0"), "1 or more, got 0"),
        (("--input", "a", "--draw", "depth"), "invalid choice: 'depth'"),
    ],
)
def test_arguments_that_make_no_sense(
    run: Run, capsys: pytest.CaptureFixture[str], args: tuple, message: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*args)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
