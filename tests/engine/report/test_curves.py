"""Curves of files as training leaves them."""

import json
from pathlib import Path

import numpy as np
import pytest

from mask2former.engine.report.curves import (
    Curve,
    best,
    loss_curves,
    loss_family,
    metric_curves,
    read_curves,
    task_and_metric,
    thinned,
)


def write(path: Path, *lines: dict) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def points(curve: Curve) -> list[tuple[int, float]]:
    return list(zip(curve.iterations.tolist(), curve.values.tolist()))


def test_a_resumed_run_counts_from_its_first_iteration_on(tmp_path: Path) -> None:
    lines = [{"iteration": i, "total_loss": float(i)} for i in (9, 19, 29)]
    again = [{"iteration": i, "total_loss": -1.0} for i in (19, 29, 39)]
    path = write(tmp_path / "m.json", *lines, {"iteration": 29, "a/PQ": 3.0}, *again)
    curves = read_curves(path)
    assert points(curves["total_loss"]) == [(9, 9), (19, -1), (29, -1), (39, -1)]
    assert "a/PQ" not in curves


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.json", {"iteration": 1, "lr": 0.5}, {"lr": 1.0}, {"iteration": 2, "lr": "x"}
    )
    with open(path, "a") as file:
        file.write('{"iteration": 1e400, "lr": 1}\n{"iteration": -7, "lr": 1}\n')
        file.write('{"iteration": 99999999999999999999, "lr": 1}\n')
        file.write('[1]\n\n{"iteration": 3, "lr": 0.25, "a": NaN}\n{"iteration": 4, "l')
    assert points(read_curves(path)["lr"]) == [(1, 0.5), (3, 0.25)]
    assert read_curves(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("loss_mask_3", "mask"),
        ("loss_ce", "ce"),
        ("loss_sem_seg_0", "sem_seg"),
        ("total_loss", None),
    ],
)
def test_losses_of_layers_are_one(name: str, family: str | None) -> None:
    assert loss_family(name) == family


def test_sums_of_losses_and_scores_of_tasks() -> None:
    def curve(*values: float) -> Curve:
        return Curve(np.arange(len(values)), np.array(values))

    curves = {
        "total_loss": curve(6, 5),
        "loss_ce": curve(1, 2),
        "loss_ce_0": curve(2, 1),
        "segm/AP": curve(10, 30, 20),
        "segm/AP-dog": curve(1),
        "val/loss": curve(3, 1, 2),
        "best/segm/AP": curve(30),
        "lr": curve(1),
    }
    assert {k: v.values.tolist() for k, v in loss_curves(curves).items()} == {
        "sum": [6, 5],
        "ce": [3, 3],
    }
    assert {task: list(found) for task, found in metric_curves(curves).items()} == {
        "segm": ["AP"],
        "val": ["loss"],
    }
    assert best("AP", curves["segm/AP"]) == (30, 1)
    assert best("loss", curves["val/loss"]) == (1, 1)


def test_thinned_curves_keep_the_mean_and_the_end() -> None:
    curve = Curve(np.arange(10_000), np.random.default_rng(0).random(10_000))
    small = thinned(curve, 100)
    assert len(small.values) == 100 and small.iterations[-1] == 9999
    assert small.values.mean() == pytest.approx(curve.values.mean())
    assert thinned(small, 100) is small


def test_classes_may_have_slashes_and_dashes(tmp_path: Path) -> None:
    names = {
        "sem_seg/IoU-road/street": ("sem_seg", "IoU-road/street"),
        "my-data/segm/AP-a/b-c": ("my-data/segm", "AP-a/b-c"),
        "my-data/segm/AP50": ("my-data/segm", "AP50"),
        "lr": ("", "lr"),
    }
    for name, parts in names.items():
        assert task_and_metric(name) == parts
    line = {"iteration": 3, **dict.fromkeys(names, 1.0), "segm/AP": 2.0}
    curves = metric_curves(read_curves(write(tmp_path / "m.json", line)))
    assert {task: set(found) for task, found in curves.items()} == {
        "my-data/segm": {"AP50"},
        "segm": {"AP"},
    }
