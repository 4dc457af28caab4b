"""Video AP: published answers, a slow oracle over frames, every error."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.evaluation.video.evaluator import evaluate_ytvis
from mask2former.formats.rle import encode_masks
from tests.evaluation.video.small import square, video_data

THRESHOLDS = [0.5 + 0.05 * i for i in range(10)]


def test_published_answer(shared):
    folder = shared / "data" / "eval" / "ytvis"
    scores = evaluate_ytvis(folder / "gt.json", folder / "dt.json")
    expected = {"AP": 0.320, "AP50": 0.562, "AP75": 0.299, "AR1": 0.268, "AR10": 0.415}
    assert {name: round(scores[name] / 100, 3) for name in expected} == expected
    assert list(scores)[:8] == ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10"]
    assert sum(name.startswith("AP-") for name in scores) == len(scores) - 8 == 80


def test_real_ground_truth_as_result(shared):
    gt = json.loads((shared / "data" / "video" / "annotations.json").read_text())
    scores = evaluate_ytvis(gt, [{**a, "score": 0.9} for a in gt["annotations"]])
    assert scores["AP"] == scores["AP-dog"] == pytest.approx(100)
    assert scores["APs"] == scores["APm"] == pytest.approx(100)
    assert math.isnan(scores["APl"])  # the dog is below 256 x 256 pixels


def slow_iou(a, b):
    intersection = sum((x & y).sum() for x, y in zip(a, b))
    union = sum((x | y).sum() for x, y in zip(a, b))
    return intersection / union if union else 0.0


def mean_area(masks):
    areas = [m.sum() for m in masks if m.any()]
    return float(np.mean(areas)) if areas else 0.0


def slow_ap(gts, dts, num_videos, area_range, max_dets, threshold):
    """AP and recall of one class by COCO's rules, one detection at a time.

    gts: (video, masks, crowd); dts: (video, masks, score).
    """
    low, high = area_range
    records, num_objects = [], 0
    for video in range(num_videos):
        own = [g for g in gts if g[0] == video]
        ignored = [bool(g[2]) or not low <= mean_area(g[1]) <= high for g in own]
        num_objects += ignored.count(False)
        taken = set()
        found = sorted((d for d in dts if d[0] == video), key=lambda d: -d[2])[:max_dets]
        for _, masks, score in found:
            ious = [slow_iou(masks, g[1]) for g in own]

            # Objects that count go before ignored ones, of equal overlaps the later one wins.
            free = [
                (not ignored[i], ious[i], i)
                for i in range(len(own))
                if (i not in taken or own[i][2]) and ious[i] >= min(threshold, 1 - 1e-10)
            ]
            match = max(free)[2] if free else None
            if match is not None:
                taken.add(match)
                records.append((score, None if ignored[match] else True))
            else:
                records.append((score, False if low <= mean_area(masks) <= high else None))
    if num_objects == 0:
        return math.nan, math.nan
    hits = [hit for _, hit in sorted(records, key=lambda r: -r[0]) if hit is not None]
    found = np.cumsum(hits)
    recall, precision = found / num_objects, found / np.arange(1, len(hits) + 1)
    levels = [
        max((p for p, r in zip(precision, recall) if r >= level), default=0.0)
        for level in np.linspace(0, 1, 101)
    ]
    return float(np.mean(levels)), float(recall[-1]) if len(hits) else 0.0


def slow_scores(tubes, results, num_videos):
    everything, small, medium = (0, 1e10), (0, 128**2), (128**2, 256**2)
    cells = {}
    for category in (1, 4):
        gts = [(v, m, crowd) for v, c, m, crowd in tubes if c == category]
        dts = [(v, m, s) for v, c, m, s in results if c == category]
        for i, t in enumerate(THRESHOLDS):
            for area in (everything, small, medium):
                cells[category, i, area] = slow_ap(gts, dts, num_videos, area, 100, t)
            for count in (1, 10):
                cells[category, i, count] = slow_ap(gts, dts, num_videos, everything, count, t)

    def mean(key, column, where=lambda c, i: True):
        values = [v[column] for (c, i, k), v in cells.items() if k == key and where(c, i)]
        values = [v for v in values if not math.isnan(v)]
        return 100 * float(np.mean(values)) if values else math.nan

    return {
        "AP": mean(everything, 0),
        "AP50": mean(everything, 0, lambda c, i: i == 0),
        "AP75": mean(everything, 0, lambda c, i: i == 5),
        "APs": mean(small, 0),
        "APm": mean(medium, 0),
        "APl": math.nan,
        "AR1": mean(1, 1),
        "AR10": mean(10, 1),
        "AP-cat": mean(everything, 0, lambda c, i: c == 1),
        "AP-dog": mean(everything, 0, lambda c, i: c == 4),
    }


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_against_the_slow_oracle(seed):
    rng = np.random.default_rng(seed)
    size, num_frames, num_videos = (4, 5), int(rng.integers(1, 4)), int(rng.integers(1, 3))

    def tube():
        masks = np.zeros((num_frames, *size), bool)
        for mask in masks:
            if rng.random() < 0.7:
                y, x = rng.integers(0, 3, 2)
                mask[y : y + rng.integers(1, 4), x : x + rng.integers(1, 4)] = True
        return masks

    def classes():
        return int(rng.integers(0, num_videos)), int(rng.choice([1, 4]))

    tubes = [(*classes(), tube(), int(rng.random() < 0.2)) for _ in range(rng.integers(1, 8))]
    scores = rng.permutation(40) / 40  # distinct: the order of equal ones is nobody's rule
    results = [(v, c, m | (tube() & tube()), 0.0) for v, c, m, _ in tubes if rng.random() < 0.8]
    results += [(*classes(), tube(), 0.0) for _ in range(rng.integers(0, 5))]
    results = [(v, c, m, float(s)) for (v, c, m, _), s in zip(results, scores)]

    gt = video_data(tubes, num_frames, size, num_videos)
    entries = [
        {"video_id": v, "category_id": c, "score": s, "segmentations": encode_masks(m)}
        for v, c, m, s in results
    ]
    got = evaluate_ytvis(gt, entries)
    expected = slow_scores(tubes, results, num_videos)
    assert set(got) == set(expected)
    assert got == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("side", "name"), [(128, "s"), (129, "m"), (256, "m"), (257, "l")])
def test_bounds_of_areas(side, name):
    masks = square(side)
    masks[1] = False  # the mean runs over the frames that show the object
    gt = video_data([(0, 1, masks, 0)], size=(300, 300))
    scores = evaluate_ytvis(gt, [{**gt["annotations"][0], "score": 1.0}])
    for other in "sml":
        if other == name:
            assert scores[f"AP{other}"] == pytest.approx(100)
        else:
            # a side of exactly 256 belongs to both, as in COCO
            assert math.isnan(scores[f"AP{other}"]) or side in (128, 256)


def test_areas_in_the_file_go_first():
    gt = video_data([(0, 1, square(4, size=(8, 8)), 0)])
    gt["annotations"][0]["areas"] = [300.0**2, None, 300.0**2]
    scores = evaluate_ytvis(gt, [{**gt["annotations"][0], "score": 1.0}])
    assert scores["APl"] == pytest.approx(100)
    assert math.isnan(scores["APs"])


def test_crowds_are_neither_hits_nor_misses_and_their_iou_is_plain():
    inside, crowd = square(2, size=(8, 8)), square(6, size=(8, 8))
    gt = video_data([(0, 1, square(8, size=(8, 8)), 0), (0, 4, crowd, 1), (0, 4, inside, 0)])
    entry = {**gt["annotations"][1], "score": 0.9}
    hit = {**gt["annotations"][2], "score": 0.5}
    assert evaluate_ytvis(gt, [entry, hit])["AP-dog"] == pytest.approx(100)
    small = np.roll(inside, 3, axis=2)  # in the crowd, which by COCO's IoU would excuse it
    wrong = {**entry, "segmentations": encode_masks(small)}
    assert evaluate_ytvis(gt, [wrong, hit])["AP-dog"] == pytest.approx(50)


def test_segmentations_in_every_form():
    mask = square(4, 1, (8, 8))
    gt = video_data([(0, 1, mask, 0)], num_frames=1)
    result = [{**gt["annotations"][0], "score": 1.0}]
    # 4 foreground, 4 background in each of the first 4 columns
    counts = [0, 4, 4, 4, 4, 4, 4, 4, 36]
    for form in ({"size": [8, 8], "counts": counts}, [[0, 0, 4, 0, 4, 4, 0, 4]]):
        gt["annotations"][0]["segmentations"] = [form]
        assert evaluate_ytvis(gt, result)["AP"] == pytest.approx(100)


def test_no_result_scores_zero():
    gt = video_data([(0, 1, square(4, size=(8, 8)), 0)])
    scores = evaluate_ytvis(gt, [])
    assert scores["AP"] == scores["AR10"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_id": 9}, "results: entry 0: video id 9 is not in the ground truth"),
        ({"category_id": 2}, "results: entry 0: category id 2 is not in the ground truth"),
        ({"segmentations": [None] * 2}, "one for each of the 3 frames of video 0, got 2"),
        ({"segmentations": [None] * 4}, "one for each of the 3 frames of video 0, got 4"),
        ({"areas": [1.0]}, "areas: expected one for each of the 3 frames of video 0, got 1"),
        (
            {"segmentations": [{"size": [9, 8], "counts": [72]}, None, None]},
            r"results: entry 0: frame 0: RLE size: expected \[8, 8\], got \[9, 8\]",
        ),
    ],
)
def test_errors(change, message):
    gt = video_data([(0, 1, square(4, size=(8, 8)), 0)])
    with pytest.raises(ValueError, match=message):
        evaluate_ytvis(gt, [{**gt["annotations"][0], "score": 1.0, **change}])


def test_ground_truth_that_is_refused_or_left_out():
    gt = video_data([(0, 1, square(4, size=(8, 8)), 0)] * 2)
    perfect = [{**gt["annotations"][0], "score": 1.0}]
    twin = gt["annotations"][1]
    sound = dict(twin)
    for change, message in (
        ({"category_id": 2}, "annotation 1: has the category id 2, which is none of"),
        ({"segmentations": [None] * 2}, "one for each of the 3 frames of video 0, got 2"),
        ({"areas": [1.0]}, "areas: expected one for each of the 3 frames of video 0, got 1"),
    ):
        twin.update(change)
        with pytest.raises(ValueError, match=message):
            evaluate_ytvis(gt, perfect)
        twin.update(sound, areas=None)
    assert evaluate_ytvis(gt, perfect)["AP"] < 60
    for change in ({"video_id": 9}, {"segmentations": [{"size": [9, 8], "counts": [72]}] * 3}):
        twin.update(sound | change)
        assert evaluate_ytvis(gt, perfect)["AP"] == pytest.approx(100)


def test_ground_truth_without_annotations():
    gt = video_data([])
    del gt["annotations"]
    with pytest.raises(ValueError, match="missing: annotations"):
        evaluate_ytvis(gt, [])


def test_keys_that_are_missing():
    gt = video_data([(0, 1, square(4, size=(8, 8)), 0)])
    with pytest.raises(ValueError, match="results: entry 0: .*; missing: score"):
        evaluate_ytvis(gt, gt["annotations"])
