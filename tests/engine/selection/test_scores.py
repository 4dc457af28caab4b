"""The metric of the best weights, known before the training: against a whole evaluation."""

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation.testing import flatten_results_dict

from mask2former.config import load_config
from mask2former.engine import Trainer, build_model
from mask2former.engine.selection.scores import check_best_metric, scored
from mask2former.errors import UserError
from mask2former.evaluation import EVALUATORS
from mask2former.evaluation.metric_names import is_of_class, metric_names
from tests.engine.resume.runs import CONFIG, SMALL, RecordingTrainer

NAME = "shapes_val_panoptic"
EVERYTHING = {
    "MODEL.MASK_FORMER.TEST.PANOPTIC_ON": True,
    "MODEL.MASK_FORMER.TEST.INSTANCE_ON": True,
    "MODEL.MASK_FORMER.TEST.SEMANTIC_ON": True,
    "MODEL.MASK_FORMER.TEST.BOUNDARY_METRICS": True,
    "TEST.LOSS": True,
    "TEST.EMA": "beside",
    "SOLVER.EMA.ENABLED": True,
}
LESS = {"MODEL.MASK_FORMER.TEST.INSTANCE_ON": False, "TEST.LOSS": False}


def make_cfg(folder: Path, **opts: Any) -> Any:
    changed = {k.replace("__", "."): v for k, v in opts.items()}
    words = {**SMALL, "DATALOADER.NUM_WORKERS": 0, **EVERYTHING, "OUTPUT_DIR": folder, **changed}
    return load_config(CONFIG, [str(word) for pair in words.items() for word in pair])


@pytest.fixture(scope="module")
def given(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all that an evaluation really gives."""
    cfg = make_cfg(tmp_path_factory.mktemp("out"))
    torch.manual_seed(0)
    model = build_model(cfg)
    return set(flatten_results_dict(scored(Trainer.test, cfg, model, model)))


def test_all_that_an_evaluation_gives_may_be_asked_for(
    given: set[str], shapes: Path, tmp_path: Path
) -> None:
    assert len(given) > 100 and any(name.startswith("panoptic_seg_EMA/PQ-") for name in given)
    cfg = make_cfg(tmp_path)
    for name in given:
        cfg.TEST.BEST.METRIC = name
        check_best_metric(cfg)


def test_totals_that_an_evaluation_does_not_give_are_not_promised(
    given: set[str], shapes: Path, tmp_path: Path
) -> None:
    promised = set(metric_names(make_cfg(tmp_path), NAME, of_classes=False))
    found = {name for name in given if not is_of_class(name)}
    assert promised == {n for n in found if "_EMA/" not in n and not n.startswith("loss/")}


@pytest.mark.parametrize(
    ("metric", "opts", "message"),
    [
        ("panoptic/PQ", {}, "give; there are panoptic_seg/PQ, .*sem_seg/mIoU, "),
        ("segm/AP", LESS, "there are panoptic_seg/PQ.*/pACC.*, and those of single classes"),
        ("loss/total", LESS, "there are panoptic_seg/PQ, "),
        ("segm_EMA/AP", {"TEST__EMA": "instead"}, "segm/AP"),
        ("panoptic_seg/PQ-circel", {}, "there are panoptic_seg/PQ-disc, [^/]*/PQ-[^/]*/PQ-"),
        (f"{NAME}/segm/AP", {}, "segm/AP"),
    ],
)
def test_others_end_before_training(
    shapes: Path, tmp_path: Path, metric: str, opts: dict[str, Any], message: str
) -> None:
    cfg = make_cfg(tmp_path, TEST__BEST__METRIC=metric, **opts)
    with pytest.raises(UserError, match=f"TEST.BEST.METRIC is .*{message}"):
        RecordingTrainer(cfg)
    assert not list(tmp_path.glob("*.pth"))


def test_several_datasets_come_first_in_the_name(shapes: Path, tmp_path: Path) -> None:
    tests = {"DATASETS__TEST": f"('{NAME}', 'shapes_train_panoptic')"}
    check_best_metric(make_cfg(tmp_path, TEST__BEST__METRIC=f"{NAME}/segm/AP", **tests))
    with pytest.raises(UserError, match=f"there are {NAME}/panoptic_seg/PQ, "):
        check_best_metric(make_cfg(tmp_path, TEST__BEST__METRIC="segm/AP", **tests))


def test_what_others_score_is_not_judged(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = [*EVALUATORS["coco_panoptic_seg"], (None, lambda cfg, name, folder: None)]
    monkeypatch.setitem(EVALUATORS, "coco_panoptic_seg", row)
    check_best_metric(make_cfg(tmp_path, TEST__BEST__METRIC="mine/score"))


def test_classes_of_an_annotation_file(tmp_path: Path, shapes: Path) -> None:
    """Metadata of detectron2's own datasets have no classes before the data are loaded."""
    name = "scores_test"
    file = tmp_path / "gt.json"
    file.write_text('{"categories": [{"id": 1, "name": "cat"}]}')
    MetadataCatalog.get(name).set(evaluator_type="coco")
    cfg = make_cfg(tmp_path)
    assert metric_names(cfg, name, of_classes=True) is None
    MetadataCatalog.get(name).set(json_file=str(file))
    names = metric_names(cfg, name, of_classes=True)
    assert "boundary/AP-cat" in names and "segm/AP" in names and "AR150" not in str(names)
    cfg.TEST.DETECTIONS_PER_IMAGE = 150
    more = set(metric_names(cfg, name, of_classes=True)) - set(names)
    assert {n for n in more if n.startswith("segm")} == {"segm/AP@100", "segm/AR150"}
