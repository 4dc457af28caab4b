"""Masks to train on: IoU matching by hand, and what drawn masks have in common."""
# ruff: noqa: NPY002 (the masks are drawn from NumPy's global generator)

from collections import Counter

import numpy as np
import pytest

from mask2former.data.given_masks.proposals import (
    _CHANGES,
    ProposalSampler,
    box_window,
    jitter,
    made_up_region,
    match_masks,
)
from mask2former.data.targets import Targets

NUM_CLASSES = 4
SIZE = (60, 80)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def targets(*masks: np.ndarray, classes: tuple[int, ...] = (3, 1)) -> Targets:
    masks = np.array(masks, bool).reshape(-1, *SIZE)
    return Targets(np.array(classes[: len(masks)]), masks, masks.any(axis=(1, 2)))


OBJECTS = (rectangle(10, 10, 30, 30), rectangle(40, 20, 70, 55))
NONE = np.zeros((0, *SIZE), bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.fixture(autouse=True)
def seed() -> None:
    np.random.seed(0)


def test_matching_by_hand():
    objects = targets(rectangle(0, 0, 10, 10), rectangle(0, 0, 10, 20))
    masks = np.array(
        [
            rectangle(0, 0, 10, 10),  # the first object, and half of the second
            rectangle(0, 0, 10, 14),  # 100 / 140 of the first, 140 / 200 of the second
            rectangle(0, 0, 10, 16),  # 100 / 160 and 160 / 200
            rectangle(0, 0, 5, 10),  # exactly half of the first
            rectangle(0, 0, 4, 10),
            rectangle(50, 50, 60, 60),
            np.zeros(SIZE, bool),
        ]
    )
    found = match_masks(masks, objects, NUM_CLASSES, 0.5)
    assert found.tolist() == [3, 3, 1, 3, 4, 4, 4]
    assert match_masks(masks, objects, NUM_CLASSES, 0.75).tolist() == [3, 4, 1, 4, 4, 4, 4]
    assert match_masks(masks, targets(), NUM_CLASSES, 0.5).tolist() == [4] * 7


def test_sample_holds_the_objects_first():
    sampler = ProposalSampler(jittered=2, made_up=1.5)
    masks, classes = sampler.sample(targets(*OBJECTS), NONE, NUM_CLASSES)
    assert masks.dtype == bool and masks.any(axis=(1, 2)).all()
    assert len(masks) == len(classes) == 2 + 2 * 2 + 3
    assert np.array_equal(masks[:2], OBJECTS) and classes[:2].tolist() == [3, 1]


@pytest.mark.parametrize("seed", range(20))
def test_classes_of_a_sample_follow_the_iou(seed: int):
    np.random.seed(seed)
    masks, classes = ProposalSampler(3, 3.0).sample(targets(*OBJECTS), NONE, NUM_CLASSES)
    for mask, label in zip(masks, classes):
        ious = [iou(mask, o) for o in OBJECTS]
        assert label == ((3, 1)[int(np.argmax(ious))] if max(ious) >= 0.5 else 4)


def test_masks_from_elsewhere_are_matched():
    more = np.array([rectangle(11, 10, 30, 30), rectangle(0, 40, 9, 50), np.zeros(SIZE, bool)])
    masks, classes = ProposalSampler(0, 0.0).sample(targets(*OBJECTS), more, NUM_CLASSES)
    assert classes.tolist() == [3, 1, 3, 4]
    assert np.array_equal(masks[2:], more[:2])  # an empty one is none


def test_objects_are_left_out_last():
    masks, classes = ProposalSampler(5, 2.0, max_masks=3).sample(
        targets(*OBJECTS), NONE, NUM_CLASSES
    )
    assert len(masks) == 3 and classes[:2].tolist() == [3, 1]
    masks, _ = ProposalSampler(5, 2.0, max_masks=1).sample(targets(*OBJECTS), NONE, NUM_CLASSES)
    assert np.array_equal(masks, OBJECTS[:1])


def test_images_without_objects():
    for objects in (targets(), targets(np.zeros(SIZE, bool))):
        masks, classes = ProposalSampler(2, 2.0).sample(objects, NONE, NUM_CLASSES)
        assert masks.shape == (0, *SIZE) and classes.shape == (0,) and classes.dtype == np.int64
    masks, classes = ProposalSampler().sample(targets(), np.array(OBJECTS), NUM_CLASSES)
    assert sorted(classes.tolist()) == [4, 4]


def test_jitter_stays_near_the_object_but_changes_it():
    overlaps = np.array([iou(jitter(mask), mask) for mask in OBJECTS for _ in range(150)])
    assert (overlaps >= 0.5).mean() > 0.95
    assert (overlaps < 1).mean() > 0.8
    assert 0.7 < overlaps.mean() < 0.95


@pytest.mark.parametrize("change", _CHANGES, ids=lambda f: f.__name__)
def test_every_change_does_something_alone(change):
    mask = (rectangle(20, 15, 50, 40) & ~rectangle(20, 15, 30, 20)).astype(np.uint8)
    changed = [change(mask) for _ in range(20)]
    assert all(c.shape == mask.shape and c.dtype == np.uint8 for c in changed)
    assert all(set(np.unique(c)) <= {0, 1} for c in changed)
    assert len({c.tobytes() for c in changed}) > 3


@pytest.mark.parametrize(
    "mask", [rectangle(5, 5, 6, 6), rectangle(0, 0, 80, 60), rectangle(79, 59, 80, 60)]
)
def test_jitter_of_extreme_masks(mask: np.ndarray):
    for _ in range(30):
        assert jitter(mask).shape == SIZE


def test_made_up_regions_are_mostly_nothing():
    regions = np.array([made_up_region(np.array(OBJECTS)) for _ in range(300)])
    found = Counter(match_masks(regions, targets(*OBJECTS), NUM_CLASSES, 0.5).tolist())
    assert found[4] > 150  # the others are the same object twice, or a large and a small one
    one = np.array([made_up_region(np.array(OBJECTS[:1])) for _ in range(50)])
    assert one.any(axis=(1, 2)).mean() > 0.9


def test_window_by_hand():
    assert box_window(rectangle(10, 20, 30, 40)) == (slice(20, 40), slice(10, 30))
    assert box_window(rectangle(10, 20, 30, 40), 0.25) == (slice(15, 45), slice(5, 35))
    assert box_window(rectangle(0, 0, 80, 60), 0.5) == (slice(0, 60), slice(0, 80))
    assert box_window(np.zeros(SIZE, bool)) == (slice(0, 0), slice(0, 0))


def test_the_global_generator_decides():
    drawn = []
    for number in (1, 1, 2):
        np.random.seed(number)
        drawn.append(ProposalSampler(2, 2.0).sample(targets(*OBJECTS), NONE, NUM_CLASSES)[0])
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    "args",
    [
        {"jittered": -1},
        {"made_up": -0.5},
        {"min_iou": 0},
        {"min_iou": 1.1},
        {"max_masks": 0},
    ],
)
def test_settings_that_make_no_sense(args: dict):
    with pytest.raises(ValueError, match=r"INPUT.MASK_PROPOSALS: expected JITTERED and MADE_UP"):
        ProposalSampler(**args)
