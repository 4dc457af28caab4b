"""The evaluator of videos: batches, subclasses with the published steps, errors, results alone."""

import json
from collections import OrderedDict

import pytest
import torch

from mask2former.evaluation.results import results_of_clip
from mask2former.evaluation.video.evaluator import YTVISEvaluator, evaluate_ytvis
from tests.evaluation.video.small import square, video_data


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
