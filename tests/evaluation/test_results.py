"""Results: tables by hand, and the json with its facts."""

import hashlib
import json
import platform

import numpy as np
import torch

from mask2former.config import get_config
from mask2former.evaluation.results import (
    class_table,
    quality_table,
    results_table,
    text_table,
    versions,
    write_results,
)

RESULTS = {"segm": {"AP": 12.344, "APl": float("nan"), "AP-cat": 50.0}, "time": 2.0}


def test_text_table():
    rows = [("segm", 1.239), ("panoptic", float("nan"))]
    assert text_table(("task", "AP"), rows).splitlines() == [
        "task        AP",
        "--------------",
        "segm      1.24",
        "panoptic     -",
    ]


def test_results_table_leaves_classes_out():
    assert results_table(RESULTS).splitlines()[2:] == [
        "segm      AP  12.34",
        "segm     APl      -",
        "time           2.00",
    ]
    assert "AP-cat  50.00" in results_table(RESULTS, per_class=True)
    assert results_table({}) == "no results"


def test_class_table_by_hand():
    results = {
        "segm": {"AP": 50.0, "AP-dog": 25.0, "AP-traffic-light": float("nan")},
        "sem_seg": {"mIoU": 1.0, "IoU-dog": 3.0, "IoU-sky": 4.5},
    }
    assert class_table(results).splitlines() == [
        "class          segm AP  sem_seg IoU",
        "-----------------------------------",
        "dog              25.00         3.00",
        "traffic-light        -            -",
        "sky                  -         4.50",
    ]
    assert class_table({"segm": {"AP": 50.0}, "time": 2.0}) == ""


def test_quality_table():
    row = {"pq": 0.5, "sq": 0.75, "rq": 2 / 3, "n": 3}
    table = quality_table({"All": row, "Things": row, "Stuff": {**row, "pq": float("nan")}})
    assert table.splitlines()[2].split() == ["All", "50.00", "75.00", "66.67", "3"]
    assert table.splitlines()[4].split()[:2] == ["Stuff", "-"]


def test_json_has_results_config_weights_and_versions(tmp_path):
    weights = tmp_path / "model.pth"
    weights.write_bytes(b"weights")
    cfg = get_config()
    cfg.MODEL.WEIGHTS = str(weights)
    write_results(tmp_path / "out" / "results.json", RESULTS, cfg=cfg)
    value = json.loads((tmp_path / "out" / "results.json").read_text())
    assert value["results"]["segm"] == {"AP": 12.344, "APl": None, "AP-cat": 50.0}
    assert value["weights"]["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert value["config"]["MODEL"]["MASK_FORMER"]["NUM_OBJECT_QUERIES"] == 100
    assert value["versions"] == versions()


def test_json_without_config_or_with_a_url(tmp_path):
    write_results(tmp_path / "a.json", RESULTS)
    value = json.loads((tmp_path / "a.json").read_text())
    assert value["config"] is None and value["weights"] is None
    write_results(tmp_path / "a.json", {}, weights="https://example.com/model.pkl")
    value = json.loads((tmp_path / "a.json").read_text())
    assert value["weights"] == {"path": "https://example.com/model.pkl", "sha256": None}


def test_versions():
    found = versions()
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert torch.__version__.startswith(found["torch"].split("+")[0])
