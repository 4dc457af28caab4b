"""TiledPredictor: one tile gives what Predictor gives, many one result; the demo and the job."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_util

from demo import demo
from mask2former.errors import UserError
from mask2former.formats.rasters import open_raster
from mask2former.mosaic import Mosaic
from mask2former.predict import Predictor, TiledPredictor
from mask2former.predict.command import main, parse_args
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.predict.job.tiny import PANOPTIC, VIDEO, WORDS, config, contents

pytest.importorskip("tifffile", reason="tifffile is missing: pip install tifffile")

SIZE = (90, 110)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    small = np.random.default_rng(3).integers(0, 256, (9, 11, 3), np.uint8)
    path = tmp_path / "photo.tif"
    Image.fromarray(small).resize(SIZE[::-1], Image.Resampling.BICUBIC).save(path)
    return path


def build(kind: Callable = TiledPredictor, **more: object):
    torch.manual_seed(0)
    return kind(config(), array_format="RGB", **more)


def whole(bands) -> np.ndarray:
    return np.concatenate(list(bands))


def results(mosaic: Mosaic) -> tuple[np.ndarray, np.ndarray, list]:
    with mosaic:
        return whole(mosaic.labels()), whole(mosaic.panoptic()), list(mosaic.instances())


def test_one_tile_is_seen_in_the_windows_of_the_model(photo: Path) -> None:
    cfg, pixels = config(), np.asarray(Image.open(photo))
    for key, value in {"SEMANTIC_WINDOW": 48, "PANOPTIC_ON": False, "INSTANCE_ON": False}.items():
        cfg.MODEL.MASK_FORMER.TEST[key] = value
    torch.manual_seed(0)
    expected = Predictor(cfg.clone(), array_format="RGB")(photo)["sem_seg"].numpy()
    cfg.defrost()
    cfg.MODEL.MASK_FORMER.TEST.SEMANTIC_OUTPUT = "labels"
    torch.manual_seed(0)
    (tile,) = TiledPredictor(cfg, array_format="RGB", tile=200)._predict([pixels])
    np.testing.assert_allclose(tile.scores, expected, rtol=1e-4, atol=1e-6)


def test_one_tile_gives_what_the_predictor_gives(photo: Path) -> None:
    labels, ids, instances = results(build(tile=200)(photo))
    expected = build(Predictor)(photo)
    assert np.mean(labels == expected["sem_seg"].argmax(0).numpy()) > 0.999
    segment_map, segments = expected["panoptic_seg"]
    assert np.mean((ids > 0) == (segment_map.numpy() > 0)) > 0.99
    for segment in segments:
        mask = segment_map.numpy() == segment["id"]
        assert np.unique(ids[mask], return_counts=True)[1].max() >= 0.99 * mask.sum()
    # The best of the predictor are among ours, which are not cut off after the best four.
    found = expected["instances"]
    assert len(found) > 0
    for mask, score, label in zip(found.pred_masks, found.scores, found.pred_classes):
        same = [
            i
            for i in instances
            if i.label == label
            and i.score == pytest.approx(float(score), abs=1e-4)
            and np.mean(mask_util.decode(i.rle) == mask.numpy()) > 0.999
        ]
        assert same or not mask.any()


def test_tiles_do_not_depend_on_how_they_are_given(photo: Path) -> None:
    array = np.asarray(Image.open(photo))
    torch.manual_seed(0)
    bgr = TiledPredictor(config(), tile=64)(np.ascontiguousarray(array[:, :, ::-1]))
    expected = results(build(tile=64, overlap=16)(photo))
    for found in (bgr, build(tile=64, batch=1)(Image.open(photo))):
        labels, ids, instances = results(found)
        assert np.mean(labels == expected[0]) > 0.999 and np.mean(ids == expected[1]) > 0.99
        assert len(instances) == len(expected[2])


@pytest.mark.parametrize(
    ("path", "more", "options", "message"),
    [
        (PANOPTIC, (), {"tile": 20, "overlap": 30}, "got tiles of 20 pixels and an overlap of 30"),
        (VIDEO, (), {"tile": 64}, "tiles need a model for images.* VideoMaskFormer"),
    ],
)
def test_what_cannot_be(path: Path, more: tuple, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TiledPredictor(config(path, *more), array_format="RGB", **options)


def test_merging_that_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    from mask2former import MaskFormer

    monkeypatch.setattr(MaskFormer, "panoptic_inference", lambda *args: None)
    with pytest.raises(UserError, match="would not call panoptic_inference of MaskFormer"):
        build(tile=64)


def run_demo(photo: Path, output: Path, *more: str) -> int:
    given = ["--config-file", str(PANOPTIC), "--input", str(photo), "--output", str(output)]
    torch.manual_seed(0)
    return demo.main([*given, *more, "--opts", *WORDS])


def test_the_demo(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "drawn"
    assert run_demo(photo, out, "--tile", "64", "--confidence-threshold", "0.01") == 0
    assert f"1 of 1 images drawn: {out / 'index.html'}" in capsys.readouterr().out
    assert np.asarray(Image.open(out / "photo_prediction.jpg")).shape == (*SIZE, 3)
    ids = np.asarray(Image.open(out / "panoptic" / "000001.tif"))
    assert ids.shape == SIZE
    (annotation,) = json.loads((out / "panoptic.json").read_text())["annotations"]
    areas = {info["id"]: info["area"] for info in annotation["segments_info"]}
    values, counts = np.unique(ids, return_counts=True)
    assert areas == {v: n for v, n in zip(values.tolist(), counts.tolist()) if v}
    labels = np.asarray(Image.open(out / "labels" / "000001.tif"))
    assert labels.shape == SIZE and labels.dtype == np.uint8 and 1 <= labels.min() <= 10
    for entry in json.loads((out / "instances.json").read_text()):
        assert entry["segmentation"]["size"] == list(SIZE) and entry["score"] >= 0.01


def test_what_the_demo_leaves_out(photo: Path, tmp_path: Path, capsys) -> None:
    import tifffile

    five = tmp_path / "five.tif"
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(five, np.zeros((70, 80, 5), np.uint8), **options)
    assert run_demo(five, tmp_path / "a", "--tile", "64") == 1
    assert "five.tif has 5 channels: which are red, green and blue?" in capsys.readouterr().err
    assert run_demo(five, tmp_path / "b", "--tile", "64", "--channels", "3", "2", "1") == 0
    with pytest.raises(SystemExit):
        run_demo(photo, tmp_path / "c", "--tile", "20", "--tile-overlap", "30")
    assert "got tiles of 20 pixels" in capsys.readouterr().err
    photo.write_bytes(photo.read_bytes()[:-4000])
    assert run_demo(photo, tmp_path / "d", "--tile", "64") == 1
    assert "the file is cut off" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_demo(photo, tmp_path / "e", "--tile-overlap", "30")
    assert "--tile-overlap and --channels belong to --tile" in capsys.readouterr().err


def run_job(output: Path, *inputs: object, more: tuple[str, ...] = ()) -> int:
    given = [*map(str, inputs), "--output", str(output), "--config-file", str(PANOPTIC)]
    options = ["--workers", "1", "--confidence-threshold", "0.01", "--tile", "64", *more]
    return main([*given, *options, "--opts", *WORDS])


def test_the_job(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes(photo.read_bytes()[:-4000])
    save = ("--save", "instances", "panoptic", "labels", "drawings")
    with pytest.raises(SystemExit):
        run_job(tmp_path / "job", photo, more=("--tile-overlap", "40"))
    assert not (tmp_path / "job").exists()  # which would take no other options
    assert run_job(tmp_path / "job", photo, bad, more=save) == 1
    found = contents(tmp_path / "job")
    assert "the file is cut off" in found["errors.jsonl"].decode()
    assert run_demo(photo, tmp_path / "a", "--tile", "64", "--confidence-threshold", "0.01") == 0
    for kind in ("panoptic", "labels"):
        (name,) = [Path(n) for n in found if n.startswith(f"{kind}/")]
        assert name.name == "photo.tif"
        images = [tmp_path / "job" / name, tmp_path / "a" / kind / "000001.tif"]
        ours, theirs = (np.asarray(Image.open(image)) for image in images)
        assert (ours == theirs).all()
    entries = json.loads((tmp_path / "a" / "instances.json").read_text())
    assert len(found["instances.json"]) == len(entries) > 0
    assert "drawings/photo.jpg" in found
    # A job in tiles is another one than a job without.
    assert run_job(tmp_path / "job", photo, bad, more=save) == 1
    with pytest.raises(SystemExit):
        run_job(tmp_path / "job", photo, bad, more=(*save, "--tile-overlap", "20"))
    assert "overlap: None then, 20 now" in capsys.readouterr().err


def test_a_full_disk_ends_the_job_without_half_a_mosaic(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from mask2former.mosaic.spool import Spool

    add = Spool.add

    def full(self: Spool, array: np.ndarray) -> int:
        if len(self._places) > 5:
            raise OSError(28, "No space left on device")
        return add(self, array)

    monkeypatch.setattr(Spool, "add", full)
    with pytest.raises(SystemExit):
        run_job(tmp_path / "job", photo)
    assert "No space left" in capsys.readouterr().err
    assert run_demo(photo, tmp_path / "drawn", "--tile", "64") == 2
    assert list((tmp_path / "drawn").iterdir()) == []
    monkeypatch.undo()
    assert run_job(tmp_path / "job", photo) == 0
    assert "panoptic/photo.tif" in contents(tmp_path / "job")


def test_options_of_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_args(["in", "--output", "out", "--config-file", "c.yaml", "--channels", "1"])
    assert "belong to --tile" in capsys.readouterr().err


def test_tiff_results_are_read_again(photo: Path, tmp_path: Path) -> None:
    run_demo(photo, tmp_path / "drawn", "--tile", "64")
    raster = open_raster(tmp_path / "drawn" / "labels" / "000001.tif")
    assert raster.size == SIZE
    raster.close()
