"""TiledRuntime: exact results of a model that sees colours, and those of TiledPredictor."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

pytest.importorskip("tifffile", reason="tifffile is missing: pip install tifffile")

from mask2former.errors import UserError
from mask2former.predict import TiledPredictor
from mask2former.runtime import TiledRuntime
from mask2former.runtime.command import main
from tests.modeling.small import tiny_model
from tests.runtime.exported import image, pair, write_file
from tests.runtime.onnx_models import halves, write_model


def whole(bands):
    return np.concatenate(list(bands))


def test_masks_of_the_whole_image(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install onnxruntime")
    write_model(tmp_path / "model.onnx")
    runtime = TiledRuntime(tmp_path / "model.onnx", tile=64, overlap=16, score_threshold=0.5)
    with runtime(halves(160, 192)) as mosaic:
        (red,) = mosaic.instances()
        assert red.label == 0 and red.box == (0, 0, 96, 160)
        assert mask_util.area(red.rle) == 96 * 160
        assert [s["category_id"] for s in mosaic.segments] == [0, 1]
        ids, labels = whole(mosaic.panoptic()), whole(mosaic.labels())
    assert (labels == (np.arange(192) >= 96)).all()
    assert (ids == labels + 1).all()


@pytest.mark.parametrize("values", [{}, {"channel_order": "BGR"}, {"resize_before_merge": False}])
def test_results_are_those_of_the_predictor(tmp_path, monkeypatch, values):
    tiles = {"tile": 48, "overlap": 12}
    panoptic_on = values.get("resize_before_merge", True)
    values |= {"panoptic_on": panoptic_on, "instance_on": panoptic_on}
    own, predictor = tiny_model(), partial(TiledPredictor, **tiles)
    if not panoptic_on:
        own.panoptic_on = own.instance_on = own.sem_seg_postprocess_before_inference = False
    predictor, _ = pair(own, tmp_path, monkeypatch, predictor=predictor, **values)
    runtime = TiledRuntime(tmp_path / "model.onnx", **tiles)
    with predictor(image(100, 130)) as theirs, runtime(image(100, 130)) as ours:
        assert (whole(ours.labels()) != whole(theirs.labels())).mean() < 1e-3
        assert ours.segments == theirs.segments or panoptic_on
        if panoptic_on:
            assert [s["category_id"] for s in ours.segments] == [
                s["category_id"] for s in theirs.segments
            ]
            assert (whole(ours.panoptic()) != whole(theirs.panoptic())).mean() < 1e-3
            found = [sorted(i.score for i in mosaic.instances()) for mosaic in (ours, theirs)]
            assert len(found[0]) > 0
            np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-5)


def test_models_for_other_inputs(tmp_path, monkeypatch):
    pair(tiny_model(), tmp_path, monkeypatch)
    for kind in ("clip", "given_masks"):
        write_file(tmp_path / "model.onnx", kind=kind)
        with pytest.raises(UserError, match=f"tiles need a model for images, .* one for {kind}"):
            TiledRuntime(tmp_path / "model.onnx", tile=32)


def test_the_command(tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install onnxruntime")
    write_model(tmp_path / "model.onnx")
    Image.fromarray(halves(160, 192)).save(tmp_path / "photo.tif")
    out = tmp_path / "drawn"
    given = [str(tmp_path / "model.onnx"), str(tmp_path / "photo.tif"), "--output", str(out)]
    assert main([*given, "--tile", "64"]) == 0
    assert f"1 of 1 images drawn: {out / 'index.html'}" in capsys.readouterr().out
    labels = np.asarray(Image.open(out / "labels" / "000001.tif"))
    assert (labels == np.where(np.arange(192) < 96, 11, 22)).all()
    (entry,) = json.loads((out / "instances.json").read_text())
    assert entry["category_id"] == 11 and entry["bbox"] == [0, 0, 96, 160]
    picture = np.asarray(Image.open(out / "photo_prediction.jpg"))
    assert picture.shape == (160, 192, 3)
    with pytest.raises(SystemExit):
        main([*given, "--tile", "64", "--tile-overlap", "40"])
    assert "got tiles of 64 pixels and an overlap of 40" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*given[:1], "--video-input", "a.mp4", "--output", str(out), "--tile", "64"])
    assert "--tile is for images" in capsys.readouterr().err
