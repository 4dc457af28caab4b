"""Joining of tracks: masks and embeddings chosen by hand, and what the rules say about them."""

import numpy as np
import pytest

from mask2former.tracks.linking import Objects, TrackLinker
from mask2former.tracks.scores import mask_iou

SIDE = 8
SURE = (0.9, 0.05)  # probabilities of two classes
OTHER = (0.05, 0.9)


def block(x: int, frames: str = "111") -> np.ndarray:
    """Masks (T, 8, 8) of a square of 3 x 3 pixels at column x in the frames marked 1."""
    masks = np.zeros((len(frames), SIDE, SIDE), bool)
    for t, seen in enumerate(frames):
        masks[t, 2:5, x : x + 3] = seen == "1"
    return masks


def objects(*items: tuple) -> Objects:
    """Of (masks, class probabilities, direction of the embedding in degrees)."""
    masks, probs, degrees = zip(*items)
    angle = np.deg2rad(np.array(degrees, np.float32))
    embeddings = np.stack([np.cos(angle), np.sin(angle)], 1)
    return Objects(np.stack(masks), np.array(probs, np.float32), embeddings)


def test_iou_of_tubes_by_hand():
    # 9 pixels a frame; moved by one column, 6 of them meet.
    iou = mask_iou(np.stack([block(0), block(4)]), np.stack([block(1), block(0, "000")]))
    assert iou[0, 0] == pytest.approx(6 / 12)
    assert iou[0, 1] == 0
    assert iou[1, 0] == 0
    assert mask_iou(block(0, "000")[None], block(0, "000")[None]) == 0


def test_masks_on_the_shared_frames_decide_whatever_the_order_and_the_looks():
    linker = TrackLinker()
    first = linker.update(objects((block(0), SURE, 0), (block(5), SURE, 90)), shared=0)
    # The embeddings say the contrary.
    second = linker.update(objects((block(5), SURE, 0), (block(0), OTHER, 90)), shared=1)
    assert second == [first[1], first[0]]
    assert len(linker.tracks) == 2


def test_only_the_shared_frames_count():
    linker = TrackLinker()
    (first,) = linker.update(objects((block(0, "110"), SURE, 0)), shared=0)
    # In the frames that follow, another object stands where the first one was at the start.
    (second,) = linker.update(objects((block(0, "111"), OTHER, 90)), shared=1)
    assert second is not first


def test_of_two_queries_on_one_object_the_surest_are_joined():
    linker = TrackLinker()
    larger = block(0)
    larger[:, 2, 3] = True  # IoU 9/10
    sure, doubtful = linker.update(
        objects((block(0), (0.8, 0.1), 0), (larger, (0.2, 0.1), 0)), shared=0
    )
    # Each of the new ones lies exactly on the other's place.
    found = linker.update(objects((block(0), (0.3, 0.1), 0), (larger, (0.9, 0.1), 0)), shared=1)
    assert found == [doubtful, sure]


def test_of_two_that_overlap_alike_looks_decide():
    linker = TrackLinker()
    first = linker.update(objects((block(1), SURE, 0), (block(1), SURE, 90)), shared=0)
    assert linker.update(objects((block(1), SURE, 90), (block(1), SURE, 0)), shared=1) == [
        first[1],
        first[0],
    ]


def test_one_that_comes_back_elsewhere_is_known_by_its_embedding():
    linker = TrackLinker()
    (first,) = linker.update(objects((block(0, "100"), SURE, 0)), shared=0)
    linker.update(objects((block(5, "011"), OTHER, 90)), shared=1)
    back, other = linker.update(
        objects((block(2, "001"), SURE, 30), (block(5, "111"), OTHER, 90)), shared=1
    )
    assert back is first
    assert other is not first
    assert len(linker.tracks) == 2


@pytest.mark.parametrize(
    ("probs", "degrees", "frames"),
    [
        (SURE, 80, "001"),  # looks otherwise
        (OTHER, 0, "001"),  # is of another class
        (SURE, 0, "111"),  # is to be seen in the shared frame beside the first
    ],
)
def test_one_that_differs_is_new(probs, degrees, frames):
    linker = TrackLinker()
    (first,) = linker.update(objects((block(0), SURE, 0)), shared=0)
    (second,) = linker.update(objects((block(5, frames), probs, degrees)), shared=1)
    assert second is not first


def test_tracks_are_forgotten_at_last():
    for absent, known in ((3, True), (4, False)):
        linker = TrackLinker(track_memory=4)
        (first,) = linker.update(objects((block(0), SURE, 0)), shared=0)
        for _ in range(absent):
            linker.update(objects((block(5), OTHER, 90)), shared=1)
        (*_, back) = linker.update(
            objects((block(5), OTHER, 90), (block(0, "001"), SURE, 0)), shared=1
        )
        assert (back is first) == known
        assert len(linker.tracks) <= 3


def test_masks_are_compared_for_as_long_as_asked():
    for memory, known in ((1, False), (2, True)):
        linker = TrackLinker(mask_memory=memory)
        still = Objects(block(0, "1")[None], np.array([SURE], np.float32))
        nothing = Objects(np.zeros((0, 1, SIDE, SIDE), bool), np.zeros((0, 2)))
        (first,) = linker.update(still, shared=1)
        assert linker.update(nothing, shared=1) == []
        (again,) = linker.update(still, shared=1)
        assert (again is first) == known


def test_class_probabilities_are_means_weighted_by_the_frames_that_show_the_object():
    linker = TrackLinker()
    linker.update(objects((block(0, "111"), (0.8, 0.1), 0)), shared=0)
    (track,) = linker.update(objects((block(0, "100"), (0.4, 0.5), 0)), shared=1)
    assert track.class_probs.tolist() == pytest.approx([0.7, 0.2])
    assert track.weight == 4


def test_one_window_leaves_the_probabilities_as_they_are():
    probs = np.random.default_rng(0).random((5, 3), np.float32)
    masks = np.stack([block(x) for x in range(5)])
    tracks = TrackLinker().update(Objects(masks, probs), shared=0)
    np.testing.assert_array_equal(np.stack([t.class_probs for t in tracks]), probs)
