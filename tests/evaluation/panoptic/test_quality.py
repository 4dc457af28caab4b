"""Panoptic quality: a 6 x 6 example worked out by hand, a slow oracle, invariants, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.evaluation.panoptic.quality import PanopticQuality, count_pairs

CATEGORIES = [
    {"id": 1, "isthing": 1},
    {"id": 2, "isthing": 0},
    {"id": 3, "isthing": 0},
    {"id": 9, "isthing": 1},  # does not occur
]
GT_MAP = np.array(
    [
        [1, 1, 1, 2, 2, 2],
        [1, 1, 1, 2, 2, 2],
        [0, 0, 3, 3, 3, 3],
        [0, 0, 3, 3, 3, 3],
        [4, 4, 4, 4, 5, 5],
        [4, 4, 4, 4, 5, 5],
    ]
)
GT_SEGMENTS = [
    {"id": 1, "category_id": 1, "iscrowd": 0},
    {"id": 2, "category_id": 1, "iscrowd": 0},
    {"id": 3, "category_id": 1, "iscrowd": 1},
    {"id": 4, "category_id": 2, "iscrowd": 0},
    {"id": 5, "category_id": 3, "iscrowd": 0},
]
PRED_MAP = np.array(
    [
        [1, 1, 1, 2, 2, 3],
        [1, 1, 1, 2, 2, 3],
        [1, 1, 7, 7, 7, 8],
        [6, 6, 7, 7, 7, 8],
        [8, 8, 8, 9, 9, 0],
        [8, 8, 8, 9, 9, 0],
    ]
)
PRED_SEGMENTS = [
    {"id": 1, "category_id": 1},  # IoU 6 / (8 + 6 - 6 - 2 void) = 1
    {"id": 2, "category_id": 1},  # IoU 4 / 6 with object 2
    {"id": 3, "category_id": 1},  # IoU 2 / 6 with object 2, which is taken: false positive
    {"id": 6, "category_id": 2},  # all void: ignored
    {"id": 7, "category_id": 1},  # all in the crowd of its class: ignored
    {"id": 8, "category_id": 2},  # IoU 6 / (8 + 8 - 6) = 0.6; a crowd of another class counts
    {"id": 9, "category_id": 3},  # IoU 2 / 6: false positive, and object 5 is missed
]


def quality(gt_map, gt_segments, pred_map, pred_segments, categories=CATEGORIES):
    result = PanopticQuality(categories)
    result.add_image(gt_map, gt_segments, pred_map, pred_segments)
    return result.summary()


def test_by_hand():
    result = quality(GT_MAP, GT_SEGMENTS, PRED_MAP, PRED_SEGMENTS)
    counts = {k: (v["tp"], v["fp"], v["fn"]) for k, v in result["per_class"].items()}
    assert counts == {1: (2, 1, 0), 2: (1, 0, 0), 3: (0, 1, 1), 9: (0, 0, 0)}
    one, two = result["per_class"][1], result["per_class"][2]
    assert [one["pq"], one["sq"], one["rq"]] == pytest.approx([2 / 3, 5 / 6, 4 / 5])
    assert [two["pq"], two["sq"], two["rq"]] == pytest.approx([0.6, 0.6, 1])
    assert result["All"] == pytest.approx(
        {"pq": (2 / 3 + 0.6) / 3, "sq": (5 / 6 + 0.6) / 3, "rq": 1.8 / 3, "n": 3}
    )
    assert result["Things"] == pytest.approx({"pq": 2 / 3, "sq": 5 / 6, "rq": 0.8, "n": 1})
    assert result["Stuff"] == pytest.approx({"pq": 0.3, "sq": 0.3, "rq": 0.5, "n": 2})


def test_prediction_in_a_crowd_of_another_class_is_wrong():
    changed = [{**s, "category_id": 3} if s["id"] == 7 else s for s in PRED_SEGMENTS]
    result = quality(GT_MAP, GT_SEGMENTS, PRED_MAP, changed)
    assert result["per_class"][3]["fp"] == 2


def test_half_in_void_is_not_enough_to_be_ignored():
    gt_map, pred_map = np.array([[0, 0, 1, 1, 1, 1]]), np.array([[2, 2, 2, 2, 0, 0]])
    gt = [{"id": 1, "category_id": 2}]
    pred = [{"id": 2, "category_id": 3}]
    assert quality(gt_map, gt, pred_map, pred)["per_class"][3]["fp"] == 1
    pred_map[0, 3] = 0
    assert quality(gt_map, gt, pred_map, pred)["per_class"][3]["fp"] == 0


def test_iou_of_one_half_is_no_match():
    gt_map, pred_map = np.array([[1, 1, 2, 2]]), np.array([[1, 0, 2, 2]])
    segments = [{"id": 1, "category_id": 1}, {"id": 2, "category_id": 2}]
    result = quality(gt_map, segments, pred_map, segments)
    assert (result["per_class"][1]["tp"], result["per_class"][2]["tp"]) == (0, 1)


@pytest.mark.parametrize("area", [1, 5, None, "4"])
def test_areas_are_those_of_the_map(area):
    """With those of the json, 1 would make the IoU 4 / (1 + 4 - 4), which is 400 percent."""
    segments = [{"id": 1, "category_id": 1}]
    one = np.ones((2, 2), int)
    gt = [{**segments[0], "area": area}]
    assert quality(one, gt, one, segments)["All"]["pq"] == 1


def test_ground_truth_as_prediction():
    result = quality(GT_MAP, GT_SEGMENTS, GT_MAP, GT_SEGMENTS)
    assert [result[name]["pq"] for name in ("All", "Things", "Stuff")] == [1, 1, 1]


def test_nothing_to_average_is_nan():
    empty = np.zeros((2, 2), int)
    result = quality(empty, [], empty, [])
    assert np.isnan(result["All"]["pq"])
    assert result["All"]["n"] == 0


def test_images_add_up():
    whole = PanopticQuality(CATEGORIES)
    parts = [PanopticQuality(CATEGORIES) for _ in range(2)]
    for i, pred_map in enumerate((PRED_MAP, PRED_MAP.T)):
        # both maps hold the same ids, so the same list of segments goes with them
        whole.add_image(GT_MAP, GT_SEGMENTS, pred_map, PRED_SEGMENTS)
        parts[i].add_image(GT_MAP, GT_SEGMENTS, pred_map, PRED_SEGMENTS)
    parts[0] += parts[1]
    assert parts[0].summary()["per_class"] == whole.summary()["per_class"]


def slow_quality(gt_map, gt_segments, pred_map, pred_segments):
    """The rule of the paper's section 4.2 and 4.3, pixel set by pixel set: tp, fp, fn, IoU sum."""

    def pixels(segment_map, segment):
        return {tuple(p) for p in np.argwhere(segment_map == segment["id"])}

    void = {tuple(p) for p in np.argwhere(gt_map == 0)}
    counts = {c["id"]: [0, 0, 0, 0.0] for c in CATEGORIES}
    matched_gt, matched_pred = set(), set()
    for gt in gt_segments:
        for pred in pred_segments:
            if gt["iscrowd"] or gt["category_id"] != pred["category_id"]:
                continue
            a, b = pixels(gt_map, gt), pixels(pred_map, pred)
            iou = len(a & b) / len(a | (b - void)) if a | (b - void) else 0
            if iou > 0.5:
                counts[gt["category_id"]][0] += 1
                counts[gt["category_id"]][3] += iou
                matched_gt.add(gt["id"])
                matched_pred.add(pred["id"])
    crowds = {g["category_id"]: pixels(gt_map, g) for g in gt_segments if g["iscrowd"]}
    for gt in gt_segments:
        if gt["id"] not in matched_gt and not gt["iscrowd"]:
            counts[gt["category_id"]][2] += 1
    for pred in pred_segments:
        own = pixels(pred_map, pred)
        ignored = own & (void | crowds.get(pred["category_id"], set()))
        if pred["id"] not in matched_pred and len(ignored) <= len(own) / 2:
            counts[pred["category_id"]][1] += 1
    return counts


@st.composite
def segmentations(draw, max_segments):
    """A coarse map that has few colours, and its segments in random order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    small = rng.integers(0, max_segments + 1, (rng.integers(1, 5), rng.integers(1, 5)))
    ids = np.concatenate(([0], rng.permutation(np.arange(1, 2**24, 1000))[:max_segments]))
    segment_map = np.kron(ids[small], np.ones((2, 2), int))
    segment_map[rng.random(segment_map.shape) < 0.2] = 0
    present = rng.permutation(np.unique(segment_map[segment_map > 0]))
    segments = [
        {
            "id": int(i),
            "category_id": int(rng.choice([1, 2, 3, 9])),
            "iscrowd": int(rng.random() < 0.3),
        }
        for i in present
    ]
    return segment_map, segments


@settings(max_examples=60)
@given(segmentations(6), segmentations(6), st.randoms())
def test_against_the_slow_oracle(gt, pred, random):
    gt_map, gt_segments = gt
    height, width = (min(a, b) for a, b in zip(gt_map.shape, pred[0].shape))
    # Predictions that partly copy the ground truth: else hardly anything would match.
    pred_map = np.where(
        np.random.default_rng(random.getrandbits(32)).random((height, width)) < 0.7,
        gt_map[:height, :width],
        pred[0][:height, :width],
    )
    gt_map = gt_map[:height, :width]
    classes = {s["id"]: s["category_id"] for s in pred[1] + gt_segments}
    present = np.unique(pred_map[pred_map > 0]).tolist()
    pred_segments = [{"id": i, "category_id": classes[i]} for i in present]
    gt_segments = [s for s in gt_segments if (gt_map == s["id"]).any()]
    result = quality(gt_map, gt_segments, pred_map, pred_segments)["per_class"]
    expected = slow_quality(gt_map, gt_segments, pred_map, pred_segments)
    for category, (tp, fp, fn, iou_sum) in expected.items():
        got = result[category]
        assert (got["tp"], got["fp"], got["fn"]) == (tp, fp, fn)
        assert got["sq"] == pytest.approx(iou_sum / tp if tp else 0)


def test_several_crowds_of_a_class_count_by_the_last_one():
    gt_map, pred_map = np.array([[1, 2, 2]]), np.array([[0, 6, 6]])
    pred = [{"id": 6, "category_id": 1}]
    crowds = [{"id": i, "category_id": 1, "iscrowd": 1} for i in (1, 2)]
    assert quality(gt_map, crowds, pred_map, pred)["per_class"][1]["fp"] == 0
    assert quality(gt_map, crowds[::-1], pred_map, pred)["per_class"][1]["fp"] == 1


def test_count_pairs_against_numpy():
    rng = np.random.default_rng(0)
    gt, pred = rng.integers(0, 4, (2, 7, 5)) * 1_000_003
    rows = np.stack((gt.reshape(-1), pred.reshape(-1)), axis=1)
    pairs, counts = np.unique(rows, axis=0, return_counts=True)
    got = count_pairs(gt, pred)
    np.testing.assert_array_equal(np.stack(got[:2], axis=1), pairs)
    np.testing.assert_array_equal(got[2], counts)


@pytest.mark.parametrize(
    ("pred_map", "pred", "message"),
    [
        (PRED_MAP[:5], PRED_SEGMENTS, "ground truth has 6 x 6 pixels, the prediction 5 x 6"),
        (PRED_MAP, PRED_SEGMENTS[1:], "segment id 1 is in the map .* but not in the json"),
        (
            PRED_MAP,
            [*PRED_SEGMENTS, {"id": 77, "category_id": 1}],
            "segment id 77 is in the json but not in the map",
        ),
        (
            PRED_MAP,
            [*PRED_SEGMENTS[:-1], {"id": 9, "category_id": 4}],
            "segment 9 has category 4, which is not among the 4 categories",
        ),
        (PRED_MAP, [*PRED_SEGMENTS, PRED_SEGMENTS[0]], "segment id 1 is listed more than once"),
    ],
)
def test_errors(pred_map, pred, message):
    with pytest.raises(ValueError, match=message):
        quality(GT_MAP, GT_SEGMENTS, pred_map, pred)


def test_categories_must_be_distinct():
    with pytest.raises(ValueError, match="expected distinct ids"):
        PanopticQuality([CATEGORIES[0], CATEGORIES[0]])
