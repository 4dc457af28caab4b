"""Objects of tiles are joined to those of the image, by a model that sees what was drawn."""

import numpy as np
import pytest
from pycocotools import mask as mask_util
from scipy import ndimage

from mask2former.formats.rasters.reading import ArrayRaster
from mask2former.mosaic import Options, Tiling, predict_mosaic
from tests.mosaic.seen import SCORE, draw, model

K = 4
IS_THING = np.array([True, True, False, False])
TILING = Tiling(32, 8)


def run(image, predict, *, tiling=TILING, is_thing=IS_THING, **more):
    options = Options(True, True, True, is_thing=is_thing, batch=3, **more)
    return predict_mosaic(ArrayRaster(image), tiling, predict, options)


def whole(bands):
    return np.concatenate(list(bands))


def require_same(mosaic, image):
    """Compare all results with what was drawn."""
    numbers, labels = image[..., 0], image[..., 1]
    assert (whole(mosaic.labels()) == labels).all()
    ids = whole(mosaic.panoptic())
    assert ids.shape == numbers.shape
    for segment in mosaic.segments:
        found = ids == segment["id"]
        assert segment["area"] == np.count_nonzero(found)
        assert set(labels[found].tolist()) == {segment["category_id"]}
        if segment["isthing"]:
            (number,) = set(numbers[found].tolist())
            assert (found == (numbers == number)).all()
        else:
            is_stuff = (labels == segment["category_id"]) & (numbers > 0)
            assert (found == is_stuff).all()
    assert ((ids > 0) == (numbers > 0)).all()
    things = set(numbers[IS_THING[labels] & (numbers > 0)].tolist())
    instances = [i for i in mosaic.instances() if i.score > 0.5]
    assert len(instances) == len(things)
    for instance in instances:
        mask = mask_util.decode(instance.rle).astype(bool)
        (number,) = set(numbers[mask].tolist())
        assert (mask == (numbers == number)).all()
        assert instance.label == labels[mask][0]
        assert list(instance.box) == mask_util.toBbox(instance.rle).tolist()
        assert instance.score == pytest.approx(SCORE, abs=1e-3)


def ring(size, middle, outer, inner):
    y, x = np.ogrid[: size[0], : size[1]]
    distance = np.hypot(y - middle[0], x - middle[1])
    return (distance < outer) & (distance >= inner)


def scene(size=(150, 170)):
    """Stuff over all; an object over many tiles, one with a hole, small ones on seams."""
    snake = np.zeros(size, bool)
    snake[5:9, 3:160] = snake[5:140, 156:160] = snake[136:140, 20:160] = True
    spots = [(0, (slice(y, y + 5), slice(x, x + 5))) for y in (24, 50, 74) for x in (26, 47, 73)]
    return [
        (2, (slice(0, 80), slice(None))),
        (3, (slice(80, None), slice(None))),
        (0, snake),
        (1, ring(size, (90, 80), 45, 30)),
        (0, ring(size, (90, 80), 12, 0)),
        *spots,
    ]


@pytest.mark.parametrize("tiling", [TILING, Tiling(33, 9), Tiling(64, 32), Tiling(200, 50)])
@pytest.mark.parametrize("in_parts", [False, True])
def test_what_was_drawn_comes_back(tiling, in_parts):
    image = draw((150, 170), scene())
    with run(image, model(K, in_parts=in_parts), tiling=tiling) as mosaic:
        require_same(mosaic, image)


def in_one_piece(image):
    """Return an image in which the parts of things that others have cut apart are things."""
    parts, count = np.zeros(image.shape[:2], int), 0
    for number in np.unique(image[..., 0]):
        mask = image[..., 0] == number
        found, more = ndimage.label(mask) if number > 1 else (mask, 1)
        parts[mask] = found[mask] + count
        count += more
    assert count < 256
    return np.dstack([parts, image[..., 1:]]).astype(np.uint8)


def test_random_boxes_come_back():
    random = np.random.default_rng(4)
    for _ in range(3):
        objects = [(2, (slice(None), slice(None)))]
        for _ in range(30):
            y, x = random.integers(0, 90, 2)
            height, width = random.integers(3, 60, 2)
            where = (slice(y, y + height), slice(x, x + width))
            objects.append((int(random.integers(2)), where))
        image = in_one_piece(draw((100, 110), objects))
        with run(image, model(K), tiling=Tiling(40, 10)) as mosaic:
            require_same(mosaic, image)


def test_the_arms_of_a_u_are_one_object_where_a_tile_shows_how_they_hang_together():
    u = np.zeros((60, 30), bool)
    u[4:50, 4:8] = u[4:50, 20:24] = u[46:50, 4:24] = True
    image = draw(u.shape, [(1, u)])
    with run(image, model(K, in_parts=True)) as mosaic:  # the upper tile sees two bars
        require_same(mosaic, image)


def test_parts_of_another_class_stay_apart():
    def change(number, probs, mask):
        return (np.roll(probs, 1), mask) if np.count_nonzero(mask) < 200 else (probs, mask)

    box = (slice(4, 24), slice(4, 32))  # the second tile begins at 24 and sees 8 columns of it
    image = draw((32, 56), [(0, box)])
    with run(image, model(K, change=change)) as mosaic:
        found = [(s["category_id"], s["area"]) for s in mosaic.segments]
        assert found == [(0, 20 * 24), (1, 20 * 4)]  # they meet at 28


def test_class_probabilities_are_means_over_what_each_tile_knows_best():
    def change(number, probs, mask):
        few = np.count_nonzero(mask) < 300
        return np.array([0.6, 0.3, 0, 0, 0.1] if few else [0.8, 0, 0.1, 0, 0.1], np.float32), mask

    image = draw((32, 56), [(0, (slice(4, 24), slice(4, 34)))])
    with run(image, model(K, change=change)) as mosaic:
        scores = {i.label: i.score for i in mosaic.instances() if i.score > 0.01}
    assert scores == pytest.approx({0: (24 * 0.8 + 6 * 0.6) / 30, 1: 6 * 0.3 / 30}, abs=1e-3)


def test_neighbours_of_one_class_stay_apart():
    boxes = [(0, (slice(4, 28), slice(x, x + 12))) for x in (2, 14, 26, 38)]
    image = draw((32, 56), boxes)
    with run(image, model(K)) as mosaic:
        require_same(mosaic, image)


def test_what_only_a_tile_sees_that_knows_it_worse_is_left_out():
    image = draw((32, 56), [(0, (slice(4, 24), slice(29, 44)))])

    def only_cut(number, probs, mask):  # seen by the first tile, of which it leaves 3 columns
        return (probs, mask) if np.count_nonzero(mask) == 60 else None

    options = {"score_threshold": 0.5}
    with run(image, model(K, change=only_cut), **options) as mosaic:
        assert mosaic.segments == [] and list(mosaic.instances()) == []
        assert not whole(mosaic.panoptic()).any()

    def only_whole(number, probs, mask):
        return None if np.count_nonzero(mask) == 60 else (probs, mask)

    with run(image, model(K, change=only_whole), **options) as mosaic:
        (instance,) = mosaic.instances()
        assert mask_util.area(instance.rle) == 20 * 15


def test_thresholds_are_those_of_the_joined_object():
    def change(number, probs, mask):  # the part of the second tile is unsure
        score = 0.9 if np.count_nonzero(mask) > 300 else 0.3
        return np.array([score, 0, 0, 0, 1 - score], np.float32), mask

    image = draw((32, 56), [(0, (slice(4, 24), slice(4, 34)))])
    joined = (0.9 * 24 + 0.3 * 6) / 30  # columns that each knows best, of the 28 and 10 it sees
    for threshold, count in ((joined - 0.01, 1), (joined + 0.01, 0)):
        with run(image, model(K, change=change), object_mask_threshold=threshold) as mosaic:
            assert len(mosaic.segments) == count
            assert whole(mosaic.panoptic()).any() == bool(count)
    for threshold, count in ((joined - 0.01, 1), (joined + 0.01, 0)):
        with run(image, model(K, change=change), score_threshold=threshold) as mosaic:
            assert len(list(mosaic.instances())) == count


def test_without_stuff_all_classes_are_objects():
    image = draw((60, 60), [(3, (slice(5, 50), slice(5, 50))), (2, (slice(10, 20), slice(0, 60)))])
    options = Options(False, False, True, score_threshold=0.5)
    with predict_mosaic(ArrayRaster(image), TILING, model(K), options) as mosaic:
        found = {i.label: mask_util.area(i.rle) for i in mosaic.instances()}
    assert found == {3: 45 * 45 - 10 * 45, 2: 600}


def test_nothing_is_seen():
    with run(np.zeros((40, 70, 3), np.uint8), model(K)) as mosaic:
        assert mosaic.segments == [] and list(mosaic.instances()) == []
        assert not whole(mosaic.panoptic()).any()


def test_the_overview_has_every_pixel_of_a_small_image():
    image = draw((150, 170), scene())
    with run(image, model(K)) as mosaic:
        assert mosaic.step == 1 and (mosaic.overview == image).all()
