"""HOTA and IDF1: values worked out by hand, errors."""

import math
import sys

import numpy as np
import pytest

from mask2former.evaluation.video.track_quality import track_quality
from mask2former.formats.rle import encode_masks

VIDEO = {"id": 1, "height": 6, "width": 6, "length": 4}
CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


@pytest.fixture
def trackeval():
    return pytest.importorskip("trackeval")


def tube(where, category=1, **more):
    """An object that fills one half of the frames listed in ``where``."""
    masks = np.zeros((4, 6, 6), bool)
    for t, half in where.items():
        masks[t, :, {"left": slice(3), "right": slice(3, 6)}[half]] = True
    rles = [r if m.any() else None for r, m in zip(encode_masks(masks), masks)]
    return {"video_id": 1, "category_id": category, "segmentations": rles, **more}


LEFT, RIGHT = dict.fromkeys(range(4), "left"), dict.fromkeys(range(4), "right")


def scores_of(annotations, results, **kwargs):
    gt = {"videos": [VIDEO], "categories": CATEGORIES, "annotations": annotations}
    return track_quality(gt, results, **kwargs)


def test_ground_truth_as_result(trackeval):
    truth = [tube(LEFT), tube(RIGHT, category=2)]
    scores = scores_of(truth, [{**t, "score": 0.9} for t in truth])
    assert scores == pytest.approx(dict.fromkeys(scores, 100))
    assert set(scores) == {
        f"{name}{end}" for name in ("HOTA", "DetA", "AssA", "IDF1") for end in ("", "-cat", "-dog")
    }


def test_two_tracks_that_swap_half_way(trackeval):
    truth = [tube(LEFT), tube(RIGHT)]
    first = {0: "left", 1: "left", 2: "right", 3: "right"}
    second = {t: {"left": "right", "right": "left"}[half] for t, half in first.items()}
    scores = scores_of(truth, [tube(first, score=0.9), tube(second, score=0.8)])
    # Every frame is detected; each match shares 2 frames of 4 + 4: A = 2 / 6, HOTA = sqrt(A).
    assert scores["DetA"] == pytest.approx(100)
    assert scores["AssA"] == pytest.approx(100 / 3)
    assert scores["HOTA"] == pytest.approx(100 * math.sqrt(1 / 3))
    assert scores["IDF1"] == pytest.approx(50)


def test_a_frame_that_is_missed(trackeval):
    scores = scores_of([tube(LEFT)], [tube(dict.fromkeys(range(3), "left"), score=0.9)])
    assert scores["DetA"] == pytest.approx(75)
    assert scores["IDF1"] == pytest.approx(100 * 2 * 3 / 7)


def test_low_scores_and_crowds_are_left_out(trackeval):
    truth = [tube(LEFT), tube(RIGHT, iscrowd=1)]
    results = [tube(LEFT, score=0.5), tube(RIGHT, score=0.4)]
    assert scores_of(truth, results)["DetA"] == pytest.approx(100)
    assert scores_of(truth, results, score_threshold=0.3)["DetA"] == pytest.approx(50)
    assert scores_of(truth, results, score_threshold=0.6)["DetA"] == 0


def test_nothing_to_score_is_nan(trackeval):
    assert all(math.isnan(score) for score in scores_of([], []).values())


def test_errors_are_those_of_average_precision(trackeval):
    with pytest.raises(ValueError, match="results: entry 0: video id 9 is not in the ground"):
        scores_of([], [tube(LEFT, score=1.0, video_id=9)])


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackeval", None)
    monkeypatch.setitem(sys.modules, "trackeval.metrics", None)
    with pytest.raises(ImportError, match="pip install trackeval"):
        scores_of([], [])
