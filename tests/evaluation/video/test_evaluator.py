"""Video AP: published answers, a slow oracle over frames, the evaluator, every error."""

import json
import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mask2former.evaluation.results import results_of_clip
from mask2former.evaluation.video.evaluator import YTVISEvaluator, evaluate_ytvis
from mask2former.formats.rle import encode_masks

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


def video_data(tubes, num_frames=3, size=(8, 8), num_videos=1):
    """Ground truth of tubes (video, category, (T, H, W) masks); empty frames are None."""
    annotations = []
    for i, (video, category, masks, crowd) in enumerate(tubes):
        rles = encode_masks(masks)
        annotations.append(
            {
                "id": i,
                "video_id": video,
                "category_id": category,
                "iscrowd": crowd,
                "segmentations": [r if m.any() else None for r, m in zip(rles, masks)],
            }
        )
    videos = [
        {
            "id": v,
            "height": size[0],
            "width": size[1],
            "file_names": [f"{v}/{t}.jpg" for t in range(num_frames)],
        }
        for v in range(num_videos)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 4, "name": "dog"}]
    return {"videos": videos, "categories": categories, "annotations": annotations}


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


def square(side, num_frames=3, size=(300, 300)):
    masks = np.zeros((num_frames, *size), bool)
    masks[:, :side, :side] = True
    return masks


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


@pytest.fixture
def scene(tmp_path, register):
    """Two registered videos of 3 frames, and perfect outputs for them."""
    tubes = [(v, c, square(s, size=(8, 8)), 0) for v, c, s in [(0, 1, 4), (0, 4, 6), (1, 4, 3)]]
    gt = video_data(tubes, num_videos=2)
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    name = register(
        json_file=str(tmp_path / "gt.json"), thing_dataset_id_to_contiguous_id={1: 0, 4: 1}
    )
    outputs = [
        {
            "image_size": (8, 8),
            "pred_scores": [0.9] * len(own),
            "pred_labels": [{1: 0, 4: 1}[c] for c, _ in own],
            "pred_masks": [torch.from_numpy(m) for _, m in own],
        }
        for own in ([(c, m) for v, c, m, _ in tubes if v == video] for video in (0, 1))
    ]
    return name, [{"video_id": 0}, {"video_id": 1}], outputs


def test_evaluator_takes_batches_and_single_outputs(scene, tmp_path):
    name, inputs, outputs = scene
    evaluator = YTVISEvaluator(name, output_dir=tmp_path / "out")
    evaluator.reset()
    evaluator.process(inputs, outputs)
    batch = evaluator.evaluate()
    assert batch["segm"]["AP"] == pytest.approx(100)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [set(r) for r in results] == [{"video_id", "score", "category_id", "segmentations"}] * 3
    assert evaluate_ytvis(tmp_path / "gt.json", results)["AP"] == batch["segm"]["AP"]
    evaluator.reset()
    for clip, output in zip(inputs, outputs):
        evaluator.process([clip], output)
    assert evaluator.evaluate()["segm"] == pytest.approx(batch["segm"], nan_ok=True)


class Numbered(YTVISEvaluator):
    """Writes more than the results, with the attributes that the published class has."""

    def process(self, inputs, outputs):
        super().process(inputs, outputs)
        self._predictions[-1]["number"] = len(self._predictions)

    def _eval_predictions(self, predictions):
        super()._eval_predictions([p for p in predictions if p["score"] > 0.5])
        ids = self._metadata.thing_dataset_id_to_contiguous_id
        self._results["numbers"] = [p["number"] for p in predictions if "number" in p]
        self._results["classes"] = [p["category_id"] in ids.values() for p in predictions]


class Scoring(YTVISEvaluator):
    """Has an `evaluate` of its own, which calls the published step."""

    def evaluate(self):
        assert not self._distributed
        self._results = OrderedDict()
        self._eval_predictions(self._predictions)
        return {"own": self._results["segm"]["AP"]}


def test_subclasses_with_the_published_steps(scene, tmp_path):
    name, inputs, outputs = scene
    evaluator = Numbered(name, output_dir=tmp_path / "out")
    evaluator.reset()
    evaluator.process(inputs[:1], outputs[0])
    evaluator.process(inputs[1:], outputs[1] | {"pred_scores": [0.2]})
    found = evaluator.evaluate()
    assert (found["numbers"], found["classes"]) == ([2, 3], [True] * 3)
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 2
    assert 50 < found["segm"]["AP"] < 100
    other = Scoring(name, distributed=False)
    other.reset()
    for clip, output in zip(inputs, outputs):
        other._predictions.extend(results_of_clip([clip], output))
    assert other.evaluate() == {"own": pytest.approx(100)}


def test_evaluator_errors(scene):
    name, inputs, outputs = scene
    evaluator = YTVISEvaluator(name)
    evaluator.reset()
    with pytest.raises(ValueError, match="expected one for each of 2 clips, got 1"):
        evaluator.process(inputs, outputs[0])
    outputs[0]["pred_labels"][0] = 40
    with pytest.raises(ValueError, match="class 40 is not among the 2 thing classes"):
        evaluator.process(inputs, outputs)


def test_evaluator_without_annotations_writes_results(scene, tmp_path, caplog):
    name, inputs, outputs = scene
    gt = json.loads((tmp_path / "gt.json").read_text())
    del gt["annotations"]
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    evaluator = YTVISEvaluator(name, output_dir=tmp_path / "out")
    evaluator.reset()
    evaluator.process(inputs, outputs)
    with caplog.at_level("INFO"):
        assert evaluator.evaluate() == {}
    assert "there is no score" in caplog.text
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 3
