"""Whole jobs: the results are those of one image after the other, whatever happened between."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from mask2former.formats.label_maps import read_labels, read_panoptic_png
from mask2former.predict import Predictor
from mask2former.predict.job import folder, run_job
from mask2former.predict.job.running import place_among_workers
from mask2former.results.files import PredictionFiles
from mask2former.visualization import semantic_labels
from tests.engine.conftest import restore_loggers  # noqa: F401 (a fixture that all tests use)
from tests.predict.job.tiny import SIZES, config, contents, leftovers, settings, write_photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def expected(photos: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What a job without helpers gives."""
    output = tmp_path_factory.mktemp("expected") / "out"
    outcome = run_job(settings(output), photos)
    assert (outcome.items, outcome.errors) == (len(SIZES), 0)
    assert leftovers(output) == []
    return contents(output)


def one_by_one(photos: list[str], folder: Path) -> tuple[dict, list[np.ndarray]]:
    """Results of the predictor and the writer that the demo uses, and label maps."""
    torch.manual_seed(0)
    predictor = Predictor(config(), array_format="RGB")
    files, labels = PredictionFiles(folder, predictor.metadata), []
    for photo in photos:
        prediction = predictor(photo)
        files.add(photo, prediction)
        labels.append(semantic_labels(prediction["sem_seg"]).numpy())
    return {path.name: json.loads(path.read_text()) for path in files.write()}, labels


def test_results_are_those_of_one_image_after_the_other(
    photos: list[str], expected: dict, tmp_path: Path
) -> None:
    results, labels = one_by_one(photos, tmp_path)
    ours, theirs = expected["instances.json"], results["instances.json"]
    assert len(ours) == len(theirs) > len(SIZES)
    by_score = [sorted(r, key=lambda e: (e["image_id"], -e["score"])) for r in (ours, theirs)]
    for a, b in zip(*by_score):
        assert (a["image_id"], a["file_name"]) == (b["image_id"], b["file_name"])
        assert a["score"] == pytest.approx(b["score"], abs=1e-5)
    pixels = [sum(mask_util.area(e["segmentation"]) for e in entries) for entries in by_score]
    assert pixels[0] == pytest.approx(pixels[1], rel=0.01)
    assert expected["panoptic.json"]["images"] == results["panoptic.json"]["images"]
    assert expected["panoptic.json"]["categories"] == results["panoptic.json"]["categories"]
    assert [e["id"] for e in expected["labels.json"]["categories"]] == list(range(1, 11))
    for image, truth in zip(expected["labels.json"]["images"], labels):
        (tmp_path / "map.png").write_bytes(expected[f"labels/{image['labels']}"])
        assert np.mean(read_labels(tmp_path / "map.png") == truth + 1) > 0.99


def test_panoptic_pngs_belong_to_their_json(expected: dict, tmp_path: Path) -> None:
    for annotation in expected["panoptic.json"]["annotations"]:
        (tmp_path / "map.png").write_bytes(expected[f"panoptic/{annotation['file_name']}"])
        ids, areas = np.unique(read_panoptic_png(tmp_path / "map.png"), return_counts=True)
        counted = {i: n for i, n in zip(ids.tolist(), areas.tolist()) if i}
        assert counted == {s["id"]: s["area"] for s in annotation["segments_info"]}


@pytest.mark.parametrize(
    "more", [{"batch": 1}, {"batch": 8}, {"readers": 1, "encoders": 1}, {"shard_size": 100}]
)
def test_results_do_not_depend_on_how_they_are_made(
    more: dict, photos: list[str], expected: dict, tmp_path: Path
) -> None:
    run_job(settings(tmp_path / "out", **more), photos)
    found = contents(tmp_path / "out")
    assert found.keys() == expected.keys()
    pairs = list(zip(found["instances.json"], expected["instances.json"]))
    assert len(pairs) == len(expected["instances.json"]) == len(found["instances.json"])
    for a, b in pairs:
        assert a["score"] == pytest.approx(b["score"], abs=1e-5)
    if "batch" not in more and "shard_size" not in more:  # batches are the same: no rounding
        assert found == expected


def test_a_finished_job_is_not_done_again(photos: list[str], tmp_path: Path) -> None:
    made = settings(tmp_path / "out", outputs=("instances",))
    first = run_job(made, photos)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert run_job(made, photos) == first
    assert {p: p.stat().st_mtime_ns for p in before if p.is_file()} == {
        p: t for p, t in before.items() if p.is_file()
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"score_threshold": 0.5}, r"score_threshold: 0\.0 then, 0\.5 now"),
        ({"outputs": ("panoptic",)}, "outputs: "),
        ({"cfg": config().clone()}, r"config \(- then, \+ now\): .*MAX_PIXELS"),
    ],
)
def test_two_jobs_are_not_mixed(
    more: dict, message: str, photos: list[str], tmp_path: Path
) -> None:
    if "cfg" in more:
        more["cfg"].defrost()
        more["cfg"].INPUT.MAX_PIXELS = 10**6
    made = settings(tmp_path, outputs=("instances",))
    run_job(made, photos[:2])
    with pytest.raises(ValueError, match=f"(?s)has a job of other settings.*{message}"):
        run_job(replace(made, **more), photos[:2])
    with pytest.raises(ValueError, match="inputs: "):
        run_job(made, photos[:1])
    run_job(replace(made, **more), photos[:1], overwrite=True)
    assert not list(tmp_path.glob(".job*"))


def test_files_of_others_are_not_replaced(photos: list[str], tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("mine")
    with pytest.raises(ValueError, match="has instances.json, which no job has written"):
        run_job(settings(tmp_path), photos)
    assert (tmp_path / "instances.json").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["instances.json"]


def test_unreadable_inputs_are_left_out_with_the_reason(photos: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(Path(photos[0]).read_bytes()[:-40])
    (tmp_path / "notes.txt").write_text("no image")
    inputs = [photos[0], str(bad), str(tmp_path / "notes.txt"), photos[1]]
    outcome = run_job(settings(tmp_path / "out"), inputs)
    assert (outcome.items, outcome.errors) == (4, 2)
    errors = [json.loads(e) for e in (tmp_path / "out/errors.jsonl").read_text().splitlines()]
    assert [(e["id"], e["file_name"]) for e in errors] == [(2, inputs[1]), (3, inputs[2])]
    assert "damaged or truncated" in errors[0]["error"] and "not an image" in errors[1]["error"]
    found = contents(tmp_path / "out")
    assert [i["id"] for i in found["panoptic.json"]["images"]] == [1, 4]
    with pytest.raises(ValueError, match=r"bad\.png.*damaged or truncated"):
        run_job(settings(tmp_path / "other", stop_on_error=True), inputs)
    outcome = run_job(settings(tmp_path / "other"), inputs)  # goes on without the wish
    assert contents(tmp_path / "other") == found


def test_a_folder_with_all_that_folders_can_have(photos: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    pixels = Path(photos[0]).read_bytes()
    strange = [
        b"two\nlines.png",
        b"\xff\xfe.png",
        "é 東京 🌊.png".encode(),
        b"-rf.png",
        b"[a]*.png",
    ]
    for name in strange:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(pixels)
    (folder / "below" / "loop").symlink_to(folder)
    (folder / "empty.png").touch()
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    made = settings(folder / "out", outputs=("instances", "panoptic", "labels"))
    outcome = run_job(made, [str(folder)])
    assert (outcome.items, outcome.errors) == (len(strange) + 3, 3)
    errors = [json.loads(e) for e in (made.output / "errors.jsonl").read_text().splitlines()]
    reasons = {Path(e["file_name"]).name: e["error"] for e in errors}
    assert reasons.keys() == {"empty.png", "gone.png", "pipe.png"}
    assert "a pipe or device" in reasons["pipe.png"]
    labels = list((made.output / "labels").iterdir())
    assert len(labels) == len(list((made.output / "panoptic").iterdir())) == len(strange)
    # Results in the folder of the inputs are no inputs of the same job.
    assert run_job(made, [str(folder)], overwrite=True).items == outcome.items


@pytest.mark.parametrize("threads", [0, 1])  # workers are started afresh, and as forks
def test_several_workers(threads: int, photos: list[str], expected: dict, tmp_path: Path) -> None:
    run_job(settings(tmp_path / "out", threads=threads), photos, workers=2)
    assert contents(tmp_path / "out") == expected
    assert leftovers(tmp_path / "out") == []


def test_a_full_disk_ends_the_job_which_goes_on_later(
    photos: list[str], expected: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, move = [5], folder._move

    def full(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        move(source, target)

    made = settings(tmp_path / "out")
    monkeypatch.setattr(folder, "_move", full)
    with pytest.raises(OSError, match="No space left"):
        run_job(made, photos)
    monkeypatch.undo()
    run_job(made, photos)
    assert contents(made.output) == expected
    assert leftovers(made.output) == []


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "1", "WORLD_SIZE": "3"}, (1, 3)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5"}, (2, 3)),
        ({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "9"}, (2, 9)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (1, 2)),
        ({"SLURM_NTASKS": "1"}, None),
    ],
)
def test_place_among_workers(environment: dict, place: tuple[int, int] | None) -> None:
    assert place_among_workers(environment) == place
