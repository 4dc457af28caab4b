"""Videos in a job: YouTube-VIS results, rows of Parquet, drawings, and videos that are damaged."""

import json
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from mask2former.formats.video.reading import open_source
from mask2former.predict import VideoPredictor
from mask2former.predict.job import run_job
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.predict.job.tiny import VIDEO, config, contents, leftovers, settings, write_photos

av = pytest.importorskip("av", reason="PyAV is not installed")


def write_video(path: Path, frames: int = 5) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for t in range(frames):
            image = np.full((48, 64, 3), 90, np.uint8)
            image[10:40, 5 + 5 * t : 30 + 5 * t] = (220, 60, 30)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("model", ["video", "images"])
def test_objects_are_those_of_the_predictor(model: str, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4")
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    cfg = config(VIDEO) if model == "video" else config()
    made = settings(tmp_path / "out", cfg=cfg, outputs=("youtube_vis", "drawings"))
    outcome = run_job(made, [str(clip), str(bad)])
    assert (outcome.items, outcome.errors) == (2, 1)
    found = contents(made.output)
    assert found.keys() == {"youtube_vis.json", "errors.jsonl", "drawings/clip.mp4"}
    assert sum(1 for _ in open_source(made.output / "drawings/clip.mp4")) == 5
    assert leftovers(made.output) == []

    torch.manual_seed(0)
    predictor = VideoPredictor(cfg, array_format="RGB")
    frames = [frame.image for frame in open_source(clip)]
    expected: dict[int, dict[int, np.ndarray]] = {}
    for t, prediction in enumerate(predictor(frames)):
        instances = prediction["instances"]
        for number, mask in zip(instances.track_ids.tolist(), instances.pred_masks):
            expected.setdefault(number, {})[t] = mask.numpy()
    tracks = found["youtube_vis.json"]
    assert [track["track_id"] for track in tracks] == sorted(expected)
    for track in tracks:
        assert (track["video_id"], track["file_name"]) == (1, str(clip))
        assert len(track["segmentations"]) == 5 and 0 <= track["score"] <= 1
        for t, rle in enumerate(track["segmentations"]):
            if rle is None:
                assert t not in expected[track["track_id"]]
            else:
                same = mask_util.decode(rle) == expected[track["track_id"]][t]
                assert np.mean(same) > 0.99


def test_images_for_a_video_model_and_folders_of_frames(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 1)
    frames = tmp_path / "frames" / "one"
    frames.mkdir(parents=True)
    for i in range(3):
        (frames / f"{i}.png").write_bytes(Path(photos[0]).read_bytes())
    made = settings(tmp_path / "out", cfg=config(VIDEO), outputs=("youtube_vis",))
    outcome = run_job(made, [photos[0], str(tmp_path / "frames")])
    assert (outcome.items, outcome.errors) == (2, 1)
    (error,) = (tmp_path / "out/errors.jsonl").read_text().splitlines()
    assert json.loads(error)["error"] == "an image, but the model is one for video"
    assert {track["video_id"] for track in contents(made.output)["youtube_vis.json"]} == {2}


def test_rows_of_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    photos = write_photos(tmp_path / "photos", 2)
    clip = write_video(tmp_path / "clip.mp4", 3)
    made = settings(tmp_path / "out", outputs=("instances", "youtube_vis", "parquet"))
    run_job(made, [*photos, str(clip)])
    found = contents(made.output)
    rows = parquet.read_table(made.output / "instances.parquet").to_pylist()
    images = [row for row in rows if row["image_id"] is not None]
    assert len(images) == len(found["instances.json"])
    for row, entry in zip(images, found["instances.json"]):
        assert {key: row[key] for key in ("image_id", "category_id", "score", "bbox")} == {
            key: entry[key] for key in ("image_id", "category_id", "score", "bbox")
        }
        assert entry["segmentation"] == {
            "size": [row["height"], row["width"]],
            "counts": row["counts"],
        }
    frames = [row for row in rows if row["video_id"] is not None]
    masks = [m for track in found["youtube_vis.json"] for m in track["segmentations"]]
    assert [row["counts"] for row in frames] == [m["counts"] for m in masks if m]
    assert {row["frame"] for row in frames} <= {0, 1, 2} and frames
