"""An exported file where detectron2 evaluates models: its results are those of the runtime."""

import evaluate_exported
import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.export.evaluated import ExportedModel
from tests.modeling.small import tiny_model, tiny_video_model
from tests.runtime.exported import image, pair
from tests.runtime.test_model import assert_same


def test_results_have_the_forms_of_the_model(tmp_path, monkeypatch):
    predictor, runtime = pair(tiny_model(), tmp_path, monkeypatch)
    path = tmp_path / "photo.png"
    Image.fromarray(image()).save(path)
    (found,) = ExportedModel(runtime)([{"file_name": str(path)}])
    expected = predictor(image())
    assert {type(found["sem_seg"]), type(found["panoptic_seg"][0])} == {torch.Tensor}
    assert found["instances"].pred_boxes.tensor.shape == (len(expected["instances"]), 4)
    as_arrays = {
        "panoptic_seg": (found["panoptic_seg"][0].numpy(), found["panoptic_seg"][1]),
        "sem_seg": found["sem_seg"].numpy(),
    }
    assert_same(as_arrays, {key: expected[key] for key in as_arrays})
    scores = np.sort(expected["instances"].scores.numpy())
    np.testing.assert_allclose(np.sort(found["instances"].scores.numpy()), scores, rtol=1e-3)


def test_a_model_for_video_is_refused(tmp_path, monkeypatch):
    _, runtime = pair(tiny_video_model(), tmp_path, monkeypatch, kind="clip")
    with pytest.raises(ValueError, match="a model for images.* got one of the kind clip"):
        ExportedModel(runtime)


def test_the_script_says_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        evaluate_exported.main(["no.onnx", "--config-file", str(tmp_path / "no.yaml")])
    assert "evaluate_exported.py: error: " in capsys.readouterr().err
