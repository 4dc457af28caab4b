"""TrackEval opens the YouTube-VIS files that are written and scores the results the same."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest

from mask2former.data.synthetic import write_shapes
from mask2former.evaluation import YTVISEvaluator

FRAMES, SIDE = 6, 48


def distorted(truth: dict[str, Any], rng: np.random.Generator) -> dict[int, dict[str, list]]:
    """Make results of each video from its objects: moved, with frames missed, some of another
    class, some twice."""
    found: dict[int, dict[str, list]] = {
        video["id"]: {"pred_scores": [], "pred_labels": [], "pred_masks": []}
        for video in truth["videos"]
    }
    scores = iter(rng.permutation(1000) / 1000)  # no two are equal
    for track in truth["annotations"]:
        masks = np.zeros((FRAMES, SIDE, SIDE), bool)
        for t, rle in enumerate(track["segmentations"]):
            if rle:
                masks[t] = mask_util.decode(mask_util.frPyObjects(rle, SIDE, SIDE))
        for _ in range(rng.integers(1, 3)):
            moved = np.roll(masks, rng.integers(0, 3, 2), axis=(1, 2))
            moved[rng.random(FRAMES) < 0.1] = False
            label = track["category_id"] - 1
            result = found[track["video_id"]]
            result["pred_labels"].append((label + (rng.random() < 0.2)) % 6)
            result["pred_scores"].append(next(scores))
            result["pred_masks"].append(moved)
    return found


@pytest.fixture(scope="module")
def truth_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    options = {"train": 1, "val": 6, "size": SIDE, "frames": FRAMES}
    write_shapes(root, video=True, seed=4, workers=1, **options)
    return root / "shapes_video/val.json"


def test_counts_and_scores(truth_file: Path, tmp_path: Path, register: Callable[..., str]) -> None:
    pytest.importorskip("trackeval", reason="TrackEval is not installed")
    from trackeval.datasets import YouTubeVIS
    from trackeval.metrics import TrackMAP

    truth = json.loads(truth_file.read_text())
    ids = {c["id"]: i for i, c in enumerate(truth["categories"])}
    name = register(json_file=str(truth_file), thing_dataset_id_to_contiguous_id=ids)
    data = tmp_path / "youtube_vis_val/ours/data"  # the layout that it wants
    evaluator = YTVISEvaluator(name, output_dir=str(data))
    evaluator.reset()
    for video, output in distorted(truth, np.random.default_rng(0)).items():
        evaluator.process([{"video_id": video}], output)
    ours = evaluator.evaluate()["segm"]

    folder = tmp_path / "truth" / "youtube_vis_val"
    folder.mkdir(parents=True)
    shutil.copy(truth_file, folder)
    places = {"GT_FOLDER": f"{tmp_path}/truth/", "TRACKERS_FOLDER": f"{tmp_path}/"}
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = YouTubeVIS({**places, "SPLIT_TO_EVAL": "val", "PRINT_CONFIG": False})
        off = dict.fromkeys(("USE_AREA_RANGES", "USE_TIME_RANGES", "PRINT_CONFIG"), False)
        metric = TrackMAP(off)
    theirs.global_tid_counter = 1  # the metric takes a match with track 0 for none
    read = {sequence: theirs.get_raw_seq_data("ours", sequence) for sequence in theirs.seq_list}

    results = json.loads((data / "results.json").read_text())
    for key, entries in (("gt", truth["annotations"]), ("tracker", results)):
        shown = sum(rle is not None for entry in entries for rle in entry["segmentations"])
        assert sum(len(ids) for raw in read.values() for ids in raw[f"{key}_ids"]) == shown > 50
    compared = 0
    for label in theirs.class_list:
        parts = {s: theirs.get_preprocessed_seq_data(raw, label) for s, raw in read.items()}
        found = metric.combine_sequences({s: metric.eval_sequence(x) for s, x in parts.items()})
        if not np.isnan(ours[f"AP-{label}"]):
            assert 100 * found["AP_all"].mean() == pytest.approx(ours[f"AP-{label}"], abs=1e-6)
            compared += 10 < ours[f"AP-{label}"] < 90
    assert compared > 2
