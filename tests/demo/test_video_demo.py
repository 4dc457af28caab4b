"""The demo script on video: files, folders, both kinds of models, interruption, broken input."""

import json
import os
import re
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mask2former.predict.demo as drawing
from demo import demo
from mask2former.formats.video.reading import Frame, open_source
from mask2former.formats.video.writing import VideoFileWriter
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)

pytest.importorskip("av")

CONFIGS = Path(__file__).resolve().parents[2] / "configs/shapes"
VIDEO, PANOPTIC = (CONFIGS / kind / "maskformer2_lite0.yaml" for kind in ("video", "panoptic"))
SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.TIMM.PRETRAINED": "",
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.DEC_LAYERS": 2,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 10,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 32,
    "INPUT.MIN_SIZE_TEST": 64,
    "SEED": 1,
}
SIZE = (64, 96)
RATE = Fraction(12)
FRAMES = 7

Run = Callable[..., tuple[int, str]]


def picture(t: int) -> np.ndarray:
    image = np.full((*SIZE, 3), 90, np.uint8)
    image[20:50, 10 + 5 * t : 40 + 5 * t] = (220, 60, 30)
    return image


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    writer = VideoFileWriter(tmp_path / "clip.mp4", RATE)
    for t in range(FRAMES):
        writer.write(picture(t), Frame(picture(t), t / 12, ""))
    return writer.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "frames"
    path.mkdir()
    for t in range(FRAMES):
        Image.fromarray(picture(t)).save(path / f"{t:03d}.png")
    return path


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls the script with a small model of random weights; output goes to tmp_path/out.mp4.

    Returns the exit code, and stdout, or stdout and stderr where the code is not 0.
    """
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*args: object, config: Path = VIDEO, **opts: object) -> tuple[int, str]:
        words = [str(word) for pair in (SMALL | opts).items() for word in pair]
        argv = ["--config-file", str(config), *map(str, args)]
        if "--output" not in argv:
            argv += ["--output", str(tmp_path / "out.mp4")]
        code = demo.main([*argv, "--opts", *words])
        captured = capsys.readouterr()
        return code, captured.out + (captured.err if code else "")

    return call


def test_a_file_becomes_a_file_of_the_same_rate(tmp_path: Path, clip: Path, run: Run) -> None:
    args = ("--video-input", clip, "--window", 4, "--confidence-threshold", 0, "--save-json")
    code, out = run(*args)
    assert code == 0
    assert re.search(r"^7 frames drawn \(\d+\.\d frames/s\): .*out\.mp4, .*out\.json$", out, re.M)
    source = open_source(tmp_path / "out.mp4")
    frames = list(source)
    assert source.rate == RATE and len(frames) == FRAMES
    assert [f.seconds for f in frames] == pytest.approx([t / 12 for t in range(FRAMES)], abs=2e-3)
    assert frames[0].image.shape == (SIZE[0] * 4, SIZE[1] * 4, 3)  # small ones are enlarged
    entries = json.loads((tmp_path / "out.json").read_text())
    assert {entry["frame"] for entry in entries} == set(range(FRAMES))
    assert min(entry["track_id"] for entry in entries) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"clip.mp4", "out.mp4", "out.json"}


def test_a_folder_becomes_a_folder_and_models_for_images_go_frame_by_frame(
    tmp_path: Path, folder: Path, run: Run
) -> None:
    args = ("--video-input", folder, "--output", tmp_path / "drawn", "--save-json")
    zero = {f"MODEL.MASK_FORMER.TEST.{k}_THRESHOLD": 0.0 for k in ("OBJECT_MASK", "OVERLAP")}
    code, _ = run(*args, "--confidence-threshold", 0, config=PANOPTIC, **zero)
    assert code == 0
    names = {f"{t:03d}.jpg" for t in range(FRAMES)}
    assert {p.name for p in (tmp_path / "drawn").iterdir()} == names | {"tracks.json"}
    entries = json.loads((tmp_path / "drawn" / "tracks.json").read_text())
    assert {entry["frame"] for entry in entries} == set(range(FRAMES))
    assert all("isthing" in entry for entry in entries)


def test_threshold(tmp_path: Path, clip: Path, run: Run) -> None:
    found = {}
    for threshold in ("0", "1"):
        run("--video-input", clip, "--save-json", "--confidence-threshold", threshold)
        found[threshold] = json.loads((tmp_path / "out.json").read_text())
    assert found["0"] and not found["1"]


def test_no_display_is_asked_for(clip: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    def refuse(*_):
        raise AssertionError("a window was asked for")

    for name in ("imshow", "namedWindow", "waitKey"):
        monkeypatch.setattr(cv2, name, refuse)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert run("--video-input", clip)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_a_file_that_plays(
    tmp_path: Path, clip: Path, run: Run, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.undo()  # signals are real here
    previous = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    before = previous[signal.SIGTERM]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background
    draw = drawing.draw
    drawn = []

    def interrupt(*args, **options):
        drawn.append(1)
        if len(drawn) == 4:
            os.kill(os.getpid(), number)
        return draw(*args, **options)

    monkeypatch.setattr(drawing, "draw", interrupt)
    try:
        code, out = run("--video-input", clip, "--save-json", "--confidence-threshold", 0)
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        for n, handler in previous.items():
            signal.signal(n, handler)
    assert code == 130
    assert "interrupted: 3 frames drawn" in out
    assert len(list(open_source(tmp_path / "out.mp4"))) == 3
    assert {e["frame"] for e in json.loads((tmp_path / "out.json").read_text())} == {0, 1, 2}
    assert {p.name for p in tmp_path.iterdir()} == {"clip.mp4", "out.mp4", "out.json"}


def test_what_was_read_before_a_damaged_frame_is_drawn(
    tmp_path: Path, folder: Path, run: Run
) -> None:
    damaged = folder / "004.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    code, out = run("--video-input", folder, "--window", 3)
    assert code == 2
    assert "4 frames drawn" in out and str(damaged) in out.strip().splitlines()[-1]
    assert len(list(open_source(tmp_path / "out.mp4"))) == 4
    code, _ = run("--video-input", folder, "--skip-damaged")
    assert code == 0
    assert len(list(open_source(tmp_path / "out.mp4"))) == FRAMES - 1


def test_a_size_that_changes_is_named(tmp_path: Path, folder: Path, run: Run) -> None:
    Image.fromarray(picture(0)[:30, :40]).save(folder / "005.png")
    code, out = run("--video-input", folder)
    assert code == 2 and "005.png is 40x30, the frames before it are 96x64" in out
    assert len(list(open_source(tmp_path / "out.mp4"))) == 5


def test_nothing_is_left_where_no_frame_could_be_read(
    tmp_path: Path, folder: Path, run: Run
) -> None:
    (folder / "000.png").write_bytes(b"")
    code, out = run("--video-input", folder, "--save-json")
    assert code == 2 and "000.png" in out and "nothing written" in out
    assert {p.name for p in tmp_path.iterdir()} == {"frames"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--video-input", "none.mp4"), "none.mp4: expected a video file, a folder of frames"),
        (("--video-input", "{clip}", "--window", "1"), "got a window of 1 frames"),
        (("--video-input", "{clip}", "--output", "x.png"), "x.png: expected a video file"),
        (("--video-input", "{clip}", "--draw", "panoptic"), "cannot draw panoptic"),
        (("--video-input", __file__), "cannot be read as video"),
    ],
)
def test_errors(clip: Path, run: Run, args: tuple, message: str) -> None:
    code, out = run(*(str(arg).format(clip=clip) for arg in args))
    assert code == 2
    last = out.strip().splitlines()[-1]
    assert last.startswith("demo.py: error: ") and message in last


def test_arguments_that_make_no_sense(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--video-input", "a.mp4", "--input", "b.jpg")
    assert "--video-input goes without --input" in capsys.readouterr().err
