"""Pictures of mosaics: where regions and the image are, whatever the step; what cannot be drawn."""

import json

import numpy as np
import pytest

from mask2former.errors import UserError
from mask2former.formats.rasters.reading import ArrayRaster
from mask2former.mosaic import Options, Tiling, joining, predict_mosaic
from mask2former.mosaic.drawing import draw_mosaics, picture
from mask2former.results.regions import object_colour
from tests.mosaic.seen import draw, model

tifffile = pytest.importorskip("tifffile", reason="tifffile is missing: pip install tifffile")

METADATA = {
    "stuff_classes": ["cup", "sky"],
    "thing_classes": ["cup"],
    "stuff_colors": [[10, 20, 30], [200, 100, 0]],
    "thing_dataset_id_to_contiguous_id": {7: 0},
    "stuff_dataset_id_to_contiguous_id": {7: 0, 9: 1},
}
IMAGE = draw((90, 140), [(1, (slice(0, 40), slice(None))), (0, (slice(50, 80), slice(20, 100)))])


def mosaic_of(image=IMAGE, **changes):
    options = {"semantic": True, "panoptic": True, "instances": True} | changes
    options["is_thing"] = np.array([True, False])
    return predict_mosaic(ArrayRaster(image), Tiling(32, 8), model(2), Options(**options))


@pytest.mark.parametrize("side", [2048, 60])
def test_colours_are_where_the_objects_are(side, monkeypatch):
    monkeypatch.setattr(joining, "_OVERVIEW_SIDE", side)
    with mosaic_of() as mosaic:
        step = mosaic.step
        assert step == {2048: 1, 60: 3}[side]
        assert (mosaic.overview == IMAGE[::step, ::step]).all()
        drawn = picture(mosaic, METADATA)
        labels = picture(mosaic, METADATA, "semantic")
        (number,) = [s["id"] for s in mosaic.segments if s["isthing"]]
    assert drawn.shape == labels.shape == mosaic.overview.shape
    thing = (0.45 * np.array([2, 0, 0]) + 0.55 * 255 * object_colour(number)).round()
    sky = (0.45 * np.array([1, 1, 0]) + 0.55 * np.array([200, 100, 0])).round()
    y, x = 60 // step, 60 // step
    assert np.abs(drawn[y, x] - thing).max() <= 1 and np.abs(drawn[y // 3, x] - sky).max() <= 1
    assert np.abs(labels[y // 3, x] - sky).max() <= 1
    assert (drawn[84 // step :] == IMAGE[::step, ::step][84 // step :]).all()  # void
    assert (drawn[-(-50 // step), x] == (255 * object_colour(number)).round()).all()  # outline


def test_a_kind_that_there_is_not():
    with mosaic_of(panoptic=False) as mosaic:
        assert picture(mosaic, METADATA).shape == IMAGE.shape
        with pytest.raises(UserError, match="cannot draw panoptic: the model gives instance, sem"):
            picture(mosaic, METADATA, "panoptic")


def test_files_of_several_mosaics(tmp_path):
    left_out = []

    def predict(file):
        if file == "bad":
            raise UserError("no image")
        return mosaic_of(score_threshold=0.5)

    options = {"on_error": lambda file, error: left_out.append((file, str(error)))}
    paths = draw_mosaics(predict, ["a", "bad", "b"], tmp_path / "out", METADATA, **options)
    assert left_out == [("bad", "no image")]
    names = ["index.html", "instances.json", "labels.json", "panoptic.json"]
    assert [path.name for path in paths] == names
    found = {path.stem: json.loads(path.read_text()) for path in paths[1:]}
    assert [e["image_id"] for e in found["instances"]] == [1, 2]
    assert found["instances"][0]["category_id"] == 7
    assert found["instances"][0]["bbox"] == [20, 50, 80, 30]
    (sky, cup) = found["panoptic"]["annotations"][1]["segments_info"]
    assert (sky["category_id"], sky["area"]) == (9, 40 * 140)
    assert (cup["category_id"], cup["area"]) == (7, 30 * 80)
    labels = tifffile.imread(tmp_path / "out" / "labels" / found["labels"][1]["labels"])
    assert (labels == np.array([7, 9])[IMAGE[..., 1]]).all()
    with pytest.raises(UserError, match="no image"):
        draw_mosaics(predict, ["bad"], tmp_path / "other", METADATA)
