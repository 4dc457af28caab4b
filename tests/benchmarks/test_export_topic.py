"""The topic of exported models, on a model that is tiny: its rows, and their figures."""

import math

import pytest

from benchmarks.measurements import export
from tests.benchmarks.test_topics import tiny_config


@pytest.mark.slow
def test_rows_compare_each_file_with_eager(monkeypatch, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    monkeypatch.setattr(export, "panoptic_config", tiny_config)
    monkeypatch.setattr("benchmarks.models.OUTPUT", tmp_path)
    monkeypatch.setattr(export, "QUICK_SIZE", (64, 96))
    monkeypatch.setattr(export, "CANDIDATES", export.CANDIDATES[:1])
    eager, file = export.measure(1, quick=True)
    assert eager["what"] == "image 64x96 to logits, eager float32"
    assert "ONNX Runtime" in file["what"]
    assert "MB, logits differ by" in file["what"]
    for row in (eager, file):
        assert math.isfinite(row["ratio"]) and row["ratio"] > 0
