"""Others read what we write: COCO's own tools, and Datumaro where it is installed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mask2former import Predictor
from mask2former.data.synthetic import write_shapes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    write_shapes(root, seed=5, train=1, val=2, size=64, workers=1)
    return root / "shapes"


def test_instances_by_pycocotools(results: Path, predictor: Predictor) -> None:
    loaded = COCO(results / "truth.json").loadRes(str(results / "results/instances.json"))
    expected = predictor(results / "street.jpg")["instances"]
    assert len(loaded.anns) == len(expected) > 0
    for annotation, mask in zip(loaded.anns.values(), expected.pred_masks):
        assert np.array_equal(loaded.annToMask(annotation), mask.numpy())


def test_semantic_results_by_pycocotools(results: Path) -> None:
    entries = json.loads((results / "results/semantic.json").read_text())
    masks = [coco_mask.decode(entry["segmentation"]) for entry in entries]
    assert (np.sum(masks, 0) == 1).all()  # each pixel has one class


def test_truth_by_pycocotools(shapes: Path) -> None:
    truth = COCO(shapes / "annotations/instances_val.json")
    assert len(truth.imgs) == 2 and truth.anns
    for annotation in truth.anns.values():
        assert truth.annToMask(annotation).sum() == annotation["area"]


def test_datumaro(shapes: Path, results: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason="Datumaro is not installed")
    truth = datumaro.Dataset.import_from(
        str(shapes / "annotations/instances_val.json"), "coco_instances"
    )
    assert len(truth) == 2 and all(item.annotations for item in truth)


@pytest.mark.parametrize("kind", ["truth", "results"])
def test_panoptic_files_by_datumaro(shapes: Path, results: Path, tmp_path: Path, kind: str) -> None:
    datumaro = pytest.importorskip("datumaro", reason="Datumaro is not installed")
    files = {
        "truth": (shapes / "annotations/panoptic_val.json", shapes / "panoptic_val"),
        "results": (results / "results/panoptic.json", results / "results/panoptic"),
    }
    # It looks for PNGs beside the json, in a folder of its name, and wants to know about crowds.
    content = json.loads(files[kind][0].read_text())
    expected = {}
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment.setdefault("iscrowd", 0)
        areas = sorted(segment["area"] for segment in annotation["segments_info"])
        expected[annotation["image_id"]] = areas
    (tmp_path / "annotations").mkdir()
    path = tmp_path / "annotations/panoptic_val.json"
    path.write_text(json.dumps(content))
    shutil.copytree(files[kind][1], path.with_suffix(""))
    read = datumaro.Dataset.import_from(str(path), "coco_panoptic")
    found = {
        item.attributes["id"]: sorted(int(mask.image.sum()) for mask in item.annotations)
        for item in read
    }
    assert found == expected and all(expected.values())
