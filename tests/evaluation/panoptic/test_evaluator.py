"""Panoptic evaluator: agreement with the quality of its own files, id conventions, errors."""

import json

import numpy as np
import pytest
import torch

from mask2former.evaluation.panoptic.evaluator import PanopticEvaluator
from mask2former.evaluation.panoptic.files import pq_compute
from mask2former.formats.label_maps import write_panoptic_png

CATEGORIES = [
    {"id": 2, "name": "cat", "isthing": 1},
    {"id": 4, "name": "sky", "isthing": 0},
    {"id": 8, "name": "dog", "isthing": 1},
]
CONTIGUOUS = {2: 0, 4: 1, 8: 2}  # all classes in one space


@pytest.fixture
def scene(tmp_path, register):
    """A registered dataset of 4 images, and noisy outputs as a model gives them."""
    rng = np.random.default_rng(1)
    annotations, inputs, outputs = [], [], []
    for image_id in range(4):
        segment_map = np.kron(rng.integers(0, 5, (3, 4)), np.ones((4, 4), int))
        classes = {1: 2, 2: 4, 3: 8, 4: 2}
        present = [int(i) for i in np.unique(segment_map) if i]
        annotations.append(
            {
                "image_id": image_id,
                "file_name": f"sub/{image_id}.png",
                "segments_info": [
                    {"id": i, "category_id": classes[i], "iscrowd": int(i == 4)} for i in present
                ],
            }
        )
        write_panoptic_png(tmp_path / "gt" / f"sub/{image_id}.png", segment_map)
        predicted = np.roll(segment_map, 1, axis=0)
        segments = [
            {
                "id": i,
                "isthing": classes[i] != 4,
                "category_id": CONTIGUOUS[classes[i]],
            }
            for i in present
        ]
        inputs.append({"image_id": image_id, "file_name": f"/photos/{image_id}.jpg"})
        outputs.append({"panoptic_seg": (torch.from_numpy(predicted), segments)})
    gt = {"images": [], "categories": CATEGORIES, "annotations": annotations}
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    name = register(
        panoptic_json=str(tmp_path / "gt.json"),
        panoptic_root=str(tmp_path / "gt"),
        thing_dataset_id_to_contiguous_id={2: 0, 8: 2},
        stuff_dataset_id_to_contiguous_id=CONTIGUOUS,
        label_divisor=1000,
    )
    return name, inputs, outputs


def run(evaluator, inputs, outputs):
    evaluator.reset()
    evaluator.process(inputs[:1], outputs[:1])
    evaluator.process(inputs[1:], outputs[1:])
    return evaluator.evaluate()


def test_scores_are_those_of_the_files_it_writes(scene, tmp_path):
    name, inputs, outputs = scene
    scores = run(PanopticEvaluator(name, tmp_path / "out"), inputs, outputs)["panoptic_seg"]
    files = pq_compute(
        tmp_path / "gt.json",
        tmp_path / "out" / "predictions.json",
        tmp_path / "gt",
        tmp_path / "out" / "panoptic",
    )
    expected = {
        name.upper() + suffix: 100 * files[group][name]
        for group, suffix in [("All", ""), ("Things", "_th"), ("Stuff", "_st")]
        for name in ("pq", "sq", "rq")
    }
    of_all = {name: score for name, score in scores.items() if "-" not in name}
    assert ",".join(of_all) == "PQ,SQ,RQ,PQ_th,SQ_th,RQ_th,PQ_st,SQ_st,RQ_st"
    assert of_all == pytest.approx(expected)
    of_classes = [score for name, score in scores.items() if name.startswith("PQ-")]
    assert len(of_classes) == len(files["per_class"])
    assert np.nanmean(of_classes) == pytest.approx(scores["PQ"])
    assert 0 < scores["PQ"] < 100


def test_ground_truth_as_prediction(scene):
    name, inputs, outputs = scene
    unrolled = [
        {"panoptic_seg": (o["panoptic_seg"][0].roll(-1, 0), o["panoptic_seg"][1])} for o in outputs
    ]
    scores = run(PanopticEvaluator(name), inputs, unrolled)["panoptic_seg"]
    assert scores["PQ"] == scores["PQ_th"] == scores["PQ_st"] == 100


def test_outputs_are_not_changed_and_nothing_is_written(scene, tmp_path):
    name, inputs, outputs = scene
    before = [[dict(s) for s in o["panoptic_seg"][1]] for o in outputs]
    files = sorted(tmp_path.rglob("*"))
    run(PanopticEvaluator(name), inputs, outputs)
    assert [o["panoptic_seg"][1] for o in outputs] == before
    assert sorted(tmp_path.rglob("*")) == files


def test_labels_that_hold_the_category(scene):
    name, inputs, outputs = scene
    expected = run(PanopticEvaluator(name), inputs, outputs)
    coded = []
    for output in outputs:
        segment_map, segments = output["panoptic_seg"]
        labels = torch.full_like(segment_map, -1)
        for s in segments:
            labels[segment_map == s["id"]] = s["category_id"] * 1000 + s["id"]
        coded.append({"panoptic_seg": (labels, None)})
    assert run(PanopticEvaluator(name), inputs, coded) == expected


def test_categories_of_the_data_set_need_no_isthing(scene):
    name, inputs, outputs = scene
    expected = run(PanopticEvaluator(name), inputs, outputs)
    dataset_id = {v: k for k, v in CONTIGUOUS.items()}
    plain = [
        {
            "panoptic_seg": (
                o["panoptic_seg"][0],
                [
                    {"id": s["id"], "category_id": dataset_id[s["category_id"]]}
                    for s in o["panoptic_seg"][1]
                ],
            )
        }
        for o in outputs
    ]
    assert run(PanopticEvaluator(name), inputs, plain) == expected


def test_every_image_must_come_once(scene):
    name, inputs, outputs = scene
    with pytest.raises(ValueError, match=r"got 3 predictions; 1 images have none, \[3\]"):
        run(PanopticEvaluator(name), inputs[:3], outputs[:3])
    with pytest.raises(ValueError, match="each of its 4 images once, got 5"):
        run(PanopticEvaluator(name), [*inputs, inputs[0]], [*outputs, outputs[0]])


def test_errors_name_the_file(scene):
    name, inputs, outputs = scene
    evaluator = PanopticEvaluator(name)
    evaluator.reset()
    with pytest.raises(ValueError, match=r"got \['sem_seg'\]; set .*PANOPTIC_ON"):
        evaluator.process(inputs[:1], [{"sem_seg": None}])
    segment_map, segments = outputs[0]["panoptic_seg"]
    with pytest.raises(ValueError, match=r"/photos/0.jpg: size: the ground truth has 12 x 16"):
        evaluator.process(inputs[:1], [{"panoptic_seg": (segment_map[:3], segments)}])
    with pytest.raises(ValueError, match=r"/photos/x.jpg: image id 9 is not in the ground truth"):
        evaluator.process([{"image_id": 9, "file_name": "/photos/x.jpg"}], outputs[:1])
    wrong = [{**segments[0], "isthing": True, "category_id": 1}]
    with pytest.raises(ValueError, match="class 1 is not among the 2 thing classes"):
        evaluator.process(inputs[:1], [{"panoptic_seg": (segment_map, wrong)}])


def test_without_annotations_results_are_written(scene, tmp_path):
    name, inputs, outputs = scene
    gt = json.loads((tmp_path / "gt.json").read_text())
    gt["annotations"] = []
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    assert run(PanopticEvaluator(name, tmp_path / "out"), inputs, outputs) == {}
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [a["file_name"] for a in written["annotations"]] == [f"{i}.png" for i in range(4)]
    assert (tmp_path / "out" / "panoptic" / "3.png").exists()


def test_names_cannot_leave_the_folder(scene, tmp_path):
    name, inputs, outputs = scene
    gt = json.loads((tmp_path / "gt.json").read_text())
    gt["annotations"][0]["file_name"] = "../gt/sub/0.png"
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    evaluator = PanopticEvaluator(name, tmp_path / "out")
    evaluator.reset()
    evaluator.process(inputs[:1], outputs[:1])
    written = [p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.png")]
    assert [str(p) for p in written] == ["panoptic/gt/sub/0.png"]
