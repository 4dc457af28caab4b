"""The table of evaluators: every row, the flags, errors."""

import importlib.util
import json

import pytest
from detectron2.evaluation import DatasetEvaluators

from mask2former.config import get_config
from mask2former.evaluation import build
from mask2former.evaluation.build import EVALUATORS, build_evaluator
from mask2former.evaluation.instance.evaluator import InstanceSegEvaluator
from mask2former.evaluation.panoptic.evaluator import PanopticEvaluator
from mask2former.evaluation.semantic.evaluator import SemSegEvaluator
from mask2former.evaluation.video.evaluator import YTVISEvaluator

# what the published scripts build, by evaluator_type and the flags that are on
P, I, S = "PANOPTIC_ON", "INSTANCE_ON", "SEMANTIC_ON"  # noqa: E741
PUBLISHED = [
    ("sem_seg", [S], ["_semantic"]),
    ("coco", [I], ["_instances"]),
    ("lvis", [I], ["_lvis"]),
    ("ytvis", [], ["_video"]),
    ("coco_panoptic_seg", [P], ["_panoptic"]),
    ("coco_panoptic_seg", [P, I, S], ["_panoptic", "_instances", "_semantic"]),
    ("ade20k_panoptic_seg", [P, I, S], ["_panoptic", "_instances", "_semantic"]),
    ("ade20k_panoptic_seg", [I], ["_instances"]),
    ("mapillary_vistas_panoptic_seg", [P, S], ["_panoptic", "_semantic"]),
    ("cityscapes_instance", [I], ["_cityscapes_instances"]),
    ("cityscapes_sem_seg", [S], ["_cityscapes_semantic"]),
    (
        "cityscapes_panoptic_seg",
        [P, I, S],
        ["_panoptic", "_cityscapes_semantic", "_cityscapes_instances"],
    ),
]


def config(flags):
    cfg = get_config()
    for flag in (P, I, S):
        cfg.MODEL.MASK_FORMER.TEST[flag] = flag in flags
    return cfg


@pytest.mark.parametrize(("kind", "flags", "expected"), PUBLISHED)
def test_rows(kind, flags, expected, register, monkeypatch):
    made = []

    def note(factory):
        def make(cfg, name, folder):
            made.append(factory.__name__)
            return factory.__name__

        return make

    row = [(flag, note(factory)) for flag, factory in EVALUATORS[kind]]
    monkeypatch.setitem(build.EVALUATORS, kind, row)
    evaluator = build_evaluator(config(flags), register(evaluator_type=kind))
    assert made == expected
    assert isinstance(evaluator, DatasetEvaluators) == (len(expected) > 1)


@pytest.fixture
def files(tmp_path):
    categories = [{"id": 1, "name": "cat", "isthing": 1}]
    size = {"id": 1, "height": 2, "width": 2}
    lists = {"images": [size], "annotations": [], "videos": [size | {"length": 1}]}
    gt = {"categories": categories, **lists}
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    ids = {1: 0}
    return {
        "json_file": str(tmp_path / "gt.json"),
        "panoptic_json": str(tmp_path / "gt.json"),
        "panoptic_root": str(tmp_path),
        "stuff_classes": ["cat"],
        "ignore_label": 255,
        "thing_dataset_id_to_contiguous_id": ids,
        "stuff_dataset_id_to_contiguous_id": ids,
    }


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sem_seg", SemSegEvaluator),
        ("coco", InstanceSegEvaluator),
        ("ytvis", YTVISEvaluator),
    ],
)
def test_one_evaluator_stands_alone(kind, expected, register, files):
    evaluator = build_evaluator(config([]), register(evaluator_type=kind, **files), "out")
    assert type(evaluator) is expected


def test_several_evaluators_together(register, files):
    name = register(evaluator_type="coco_panoptic_seg", **files)
    together = build_evaluator(config([P, I, S]), name)
    kinds = [type(evaluator) for evaluator in together._evaluators]
    assert kinds == [PanopticEvaluator, InstanceSegEvaluator, SemSegEvaluator]


def test_output_folder_is_inference_by_default(register, files, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setitem(
        build.EVALUATORS, "coco", [(None, lambda cfg, name, folder: seen.append(folder))]
    )
    cfg = config([])
    cfg.OUTPUT_DIR = str(tmp_path)
    name = register(evaluator_type="coco")
    build_evaluator(cfg, name)
    build_evaluator(cfg, name, "elsewhere")
    assert seen == [str(tmp_path / "inference"), "elsewhere"]


def test_boundary_metrics_reach_the_evaluators(register, files):
    cfg = config([I, S])
    cfg.MODEL.MASK_FORMER.TEST.BOUNDARY_METRICS = True
    name = register(evaluator_type="coco_panoptic_seg", **files)
    instances, semantic = build_evaluator(cfg, name)._evaluators
    assert instances._tasks == ("bbox", "segm", "boundary")
    assert semantic._dilation_ratio == 0.02


@pytest.mark.parametrize("kind", ["cityscapes_sem_seg", "cityscapes_instance", "lvis"])
def test_missing_packages(kind, register, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"is scored by (lvis|city\w+).*: pip install \1$"):
        build_evaluator(config([]), register(evaluator_type=kind))


def test_unknown_types_list_the_known_ones(register):
    with pytest.raises(NotImplementedError, match="among ade20k_panoptic_seg, .* got 'voc'"):
        build_evaluator(config([]), register(evaluator_type="voc"))
    with pytest.raises(NotImplementedError, match="got None"):
        build_evaluator(config([]), register())


def test_a_model_without_outputs(register):
    name = register(evaluator_type="coco_panoptic_seg")
    with pytest.raises(ValueError, match="set PANOPTIC_ON or INSTANCE_ON or SEMANTIC_ON in"):
        build_evaluator(config([]), name)
