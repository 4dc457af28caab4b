"""Drawing of sampled keys: what is painted where, and in which order of size."""

import numpy as np
import torch
from dat_drawing.keys import LayerKeys
from dat_drawing.pictures import draw_importance, draw_offsets


def make_keys(weights) -> LayerKeys:
    """Two groups of two keys on an image of 700 x 640 pixels (width, height)."""
    references = torch.tensor([[100.0, 100.0], [500.0, 400.0]])
    places = torch.tensor([[[160.0, 100.0], [500.0, 460.0]], [[100.0, 40.0], [560.0, 400.0]]])
    query = torch.tensor([350.0, 600.0])
    return LayerKeys("stages.2.attns.1", "res4", query, references, places, torch.tensor(weights))


IMAGE = np.full((640, 700, 3), 100, np.uint8)


def painted(picture: np.ndarray) -> np.ndarray:
    return (picture != 55).any(-1)  # the image is shown darker


def test_lines_lead_from_the_grid_to_the_keys():
    before = IMAGE.copy()
    picture = draw_offsets(IMAGE, make_keys([[0.5, 0.5], [0.5, 0.5]]))
    assert picture.shape == IMAGE.shape and picture.dtype == np.uint8
    assert np.array_equal(IMAGE, before)
    drawn = painted(picture)
    for x, y in ((130, 100), (160, 100), (100, 70), (500, 430), (530, 400)):
        assert drawn[y - 1 : y + 2, x - 1 : x + 2].any()
    assert not drawn[200:380].any()
    first, second = picture[99:101, 125:135].max((0, 1)), picture[65:75, 99:101].max((0, 1))
    assert first[0] > 2 * first[2] and second[2] > 2 * second[0]  # orange, blue
    assert drawn[600, 350]  # the star


def test_heavier_keys_are_larger_and_redder():
    picture = draw_importance(IMAGE, make_keys([[0.7, 0.3], [0.5, 0.5]]), count=4).astype(int)
    heavy, light = picture[90:110, 150:171], picture[450:471, 490:511]
    assert painted(heavy).sum() > 5 * painted(light).sum() > 0
    assert heavy[10, 10, 0] > 200 and heavy[10, 10, 1] < 60  # red
    assert light[10, 10, 1] > 100  # yellow


def test_only_the_heaviest_are_drawn():
    picture = draw_importance(IMAGE, make_keys([[0.7, 0.3], [0.4, 0.6]]), count=2)
    drawn = painted(picture)
    assert drawn[100, 160] and drawn[400, 560]
    assert not drawn[460, 500] and not drawn[40, 100]


def test_equal_weights_and_keys_beside_the_image():
    keys = make_keys([[0.5, 0.5], [0.5, 0.5]])
    keys.places[0, 0] = torch.tensor([-30.0, 900.0])
    assert painted(draw_importance(IMAGE, keys)).any()
    assert painted(draw_offsets(IMAGE, keys)).any()


def test_small_images_are_enlarged():
    keys = make_keys([[0.7, 0.3], [0.5, 0.5]])
    small = keys._replace(query=keys.query / 10, places=keys.places / 10)
    picture = draw_importance(IMAGE[:64, :70], small, count=1)
    assert picture.shape == (585, 640, 3)
    assert painted(picture)[91, 146]  # (10, 16) times 64 / 7
