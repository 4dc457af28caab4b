"""Ground truth fed back as prediction scores 100 through the evaluators that datasets ask for."""

import pytest
from detectron2.data import DatasetCatalog

from mask2former.data.datasets import register_all
from mask2former.data.synthetic import write_shapes
from mask2former.evaluation import build_evaluator
from tests.evaluation.truth import config, instance_output, panoptic_output, semantic_output
from tests.photos import register_photos


def run(cfg, name, outputs, folder):
    records = DatasetCatalog.get(name)
    evaluator = build_evaluator(cfg, name, str(folder))
    evaluator.reset()
    for record in records:
        evaluator.process([record], [outputs(record)])
    return evaluator.evaluate()


def test_shapes(tmp_path, catalogs):
    write_shapes(tmp_path, seed=1, train=1, val=6, size=64, workers=1)
    register_all(str(tmp_path))

    def outputs(record):
        name = "shapes_val_panoptic"
        return {
            **panoptic_output(record),
            **semantic_output(name, record),
            **instance_output(name, record["image_id"]),
        }

    everything = config("PANOPTIC", "INSTANCE", "SEMANTIC")
    scores = run(everything, "shapes_val_panoptic", outputs, tmp_path / "out")
    assert scores["panoptic_seg"]["PQ"] == scores["panoptic_seg"]["PQ_th"] == 100
    assert scores["panoptic_seg"]["PQ_st"] == scores["sem_seg"]["mIoU"] == 100
    assert scores["segm"]["AP"] == scores["bbox"]["AP"] == pytest.approx(100)

    name = "shapes_val_sem_seg"
    scores = run(config("SEMANTIC"), name, lambda r: semantic_output(name, r), tmp_path / "out")
    assert scores["sem_seg"]["mIoU"] == 100
    name = "shapes_val_instance"
    scores = run(
        config("INSTANCE"), name, lambda r: instance_output(name, r["image_id"]), tmp_path / "out"
    )
    assert scores["segm"]["AP"] == pytest.approx(100)


def test_real_photos_with_panoptic_annotations(shared, tmp_path, catalogs):
    register_photos(shared, "panoptic")
    scores = run(
        config("PANOPTIC", "SEMANTIC"),
        "photos",
        lambda record: {**panoptic_output(record), **semantic_output("photos", record)},
        tmp_path,
    )
    assert scores["panoptic_seg"]["PQ"] == 100  # though the two photos have crowds
    assert scores["sem_seg"]["mIoU"] == 100  # of label maps that the segments make


def test_real_photos_with_instance_annotations(shared, tmp_path, catalogs):
    register_photos(shared, "instance")
    cfg = config("INSTANCE")
    scores = run(cfg, "photos", lambda r: instance_output("photos", r["image_id"]), tmp_path)
    assert scores["segm"]["AP"] == pytest.approx(100)
    assert scores["bbox"]["AP"] == pytest.approx(100)
