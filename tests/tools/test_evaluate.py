"""The evaluation scripts: their tables on known answers, and what they say on bad input."""

import importlib
import json

import numpy as np
import pytest
from PIL import Image

from mask2former.formats.rle import encode_masks


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs a script of tools/ and returns the rows of what it prints."""

    def run(script, **arguments):
        argv = [script]
        for key, value in arguments.items():
            argv += [f"--{key.replace('_', '-')}"] + ([] if value is True else [str(value)])
        monkeypatch.setattr("sys.argv", argv)
        importlib.import_module(script).main()
        return [line.split() for line in capsys.readouterr().out.splitlines()]

    return run


def test_panoptic(call, shared):
    folder = shared / "data" / "eval" / "pq_team"
    rows = call(
        "evaluate_panoptic",
        gt_json_file=folder / "gt.json",
        pred_json_file=folder / "pred.json",
        num_workers=1,
    )
    assert ["All", "76.86", "77.69", "98.89", "6"] in rows


def test_ytvis(call, tmp_path):
    mask = encode_masks(np.ones((1, 4, 4), bool))
    video = {"id": 1, "height": 4, "width": 4, "length": 1}
    annotation = {"video_id": 1, "category_id": 2, "segmentations": mask}
    gt = {"videos": [video], "categories": [{"id": 2, "name": "cat"}], "annotations": [annotation]}
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps([{**annotation, "score": 1}]))
    files = {
        "gt_json_file": tmp_path / "gt.json",
        "results_json_file": tmp_path / "results.json",
    }
    rows = call("evaluate_ytvis", **files)
    assert ["segm", "AP", "100.00"] in rows
    assert ["segm", "AP-cat", "100.00"] not in rows
    assert ["segm", "AP-cat", "100.00"] in call("evaluate_ytvis", **files, per_class=True)


@pytest.mark.parametrize("iou_type", ["boundary", "segm"])
def test_boundary_ap(call, tmp_path, iou_type):
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 5:15, 5:15] = True
    annotation = {"id": 1, "image_id": 1, "category_id": 2, "segmentation": encode_masks(mask)[0]}
    gt = {
        "images": [{"id": 1, "height": 20, "width": 20}],
        "categories": [{"id": 2, "name": "cat"}],
        "annotations": [annotation],
    }
    mask[0, 14] = False  # mask IoU 0.9, boundary IoU (at width 1) 26 / 44
    result = {**annotation, "segmentation": encode_masks(mask)[0], "score": 1.0}
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "dt.json").write_text(json.dumps([result]))
    rows = call(
        "evaluate_coco_boundary_ap",
        gt_json_file=tmp_path / "gt.json",
        dt_json_file=tmp_path / "dt.json",
        iou_type=iou_type,
    )
    expected = {"boundary": "20.00", "segm": "90.00"}[iou_type]  # thresholds up to 0.55, 0.9
    assert [iou_type, "AP", expected] in rows


def test_pq_of_semantic_results(call, tmp_path, monkeypatch):
    from detectron2.data import DatasetCatalog, MetadataCatalog

    monkeypatch.setattr(DatasetCatalog, "data", dict(DatasetCatalog.data))
    monkeypatch.setattr(MetadataCatalog, "data", dict(MetadataCatalog.data))
    labels = np.array([[0, 0, 1, 1]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "a.png")
    record = {"file_name": "a.jpg", "sem_seg_file_name": str(tmp_path / "a.png")}
    DatasetCatalog.register("tool_test", lambda: [record])
    MetadataCatalog.get("tool_test").set(stuff_classes=["wall", "tree"], ignore_label=255)
    masks = encode_masks(np.stack([labels == 0, labels == 1]))
    entries = [
        {"file_name": "a.jpg", "category_id": k, "segmentation": m} for k, m in enumerate(masks)
    ]
    (tmp_path / "sem_seg_predictions.json").write_text(json.dumps(entries))
    rows = call(
        "evaluate_pq_for_semantic_segmentation",
        dataset_name="tool_test",
        json_file=tmp_path / "sem_seg_predictions.json",
    )
    assert ["All", "100.00", "100.00", "100.00", "2"] in rows
    assert ["sem_seg", "mIoU", "100.00"] in rows


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("evaluate_panoptic", ("gt_json_file", "pred_json_file")),
        ("evaluate_ytvis", ("gt_json_file", "results_json_file")),
        ("evaluate_coco_boundary_ap", ("gt_json_file", "dt_json_file")),
    ],
)
def test_bad_input_is_one_line(call, capsys, tmp_path, script, arguments):
    path = tmp_path / "broken.json"
    path.write_text("{")
    for file, message in [(path, "expected a json file"), (tmp_path / "none.json", "No such file")]:
        with pytest.raises(SystemExit) as stop:
            call(script, **dict.fromkeys(arguments, file))
        assert stop.value.code == 1
        error = capsys.readouterr().err
        assert message in error and file.name in error
        assert error.count("\n") == 1


def test_unknown_dataset_is_one_line(call, capsys, tmp_path):
    with pytest.raises(SystemExit):
        call("evaluate_pq_for_semantic_segmentation", dataset_name="nowhere", json_file=tmp_path)
    error = capsys.readouterr().err
    assert "there is no dataset named 'nowhere'; near names: " in error
    assert error.count("\n") == 1


def test_tracks(call, tmp_path):
    pytest.importorskip("trackeval")
    mask = encode_masks(np.ones((1, 4, 4), bool))
    annotation = {"video_id": 1, "category_id": 2, "segmentations": mask}
    video = {"id": 1, "height": 4, "width": 4, "length": 1}
    gt = {"videos": [video], "categories": [{"id": 2, "name": "cat"}], "annotations": [annotation]}
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    (tmp_path / "results.json").write_text(json.dumps([{**annotation, "score": 0.4}]))
    files = {"gt_json_file": tmp_path / "gt.json", "results_json_file": tmp_path / "results.json"}
    assert ["segm", "HOTA", "0.00"] in call("evaluate_ytvis", **files, tracks=True)
    rows = call("evaluate_ytvis", **files, tracks=True, score_threshold=0.3)
    assert ["segm", "HOTA", "100.00"] in rows
