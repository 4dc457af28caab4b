"""The topic of exported models, on a model that is tiny: its rows, and their figures."""

import itertools
import math

import pytest

from benchmarks.measurements import export
from tests.benchmarks.test_topics import tiny_config


@pytest.mark.slow
def test_rows_come_one_by_one_and_compare_each_file_with_eager(monkeypatch, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    monkeypatch.setattr(export, "quick_start_config", tiny_config)
    monkeypatch.setattr("benchmarks.models.OUTPUT", tmp_path)
    monkeypatch.setattr(export, "QUICK_SIZES", ((64, 96), (96, 64)))
    monkeypatch.setattr(export, "has_bf16", lambda device: True)
    monkeypatch.setattr(export, "quantize", lambda path: pytest.fail("it was not asked for yet"))
    rows = export.measure(1, quick=True)
    eager, other_eager, written, file, other_file = itertools.islice(rows, 5)
    rows.close()
    assert eager["what"] == "image 64x96 to logits, eager, bf16 autocast"
    assert other_eager["what"] == "image 96x64 to logits, eager, bf16 autocast"
    assert "export to ONNX: " in written["what"] and written["what"].endswith(" MB")
    assert math.isfinite(written["ours"]) and written["ours"] > 0
    assert "64x96 to logits, ONNX Runtime; logits differ by" in file["what"]
    assert "96x64 to logits, ONNX Runtime; logits differ by" in other_file["what"]
    assert float(file["what"].split()[-1]) <= 1e-3
    for row in (eager, other_eager, file, other_file):
        assert math.isfinite(row["ratio"]) and row["ratio"] > 0
