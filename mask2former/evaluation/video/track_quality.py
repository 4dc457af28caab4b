"""HOTA and IDF1 of video instances, by TrackEval (an optional package).

Average precision ranks whole tubes by score. These measures look at the tracks of a video as one
answer instead, at detection and at the identities over time: HOTA is that of Luiten et al., IJCV
2021, IDF1 that of Ristani et al., ECCV Workshops 2016.
"""

import contextlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from ...errors import MissingPackageError
from ...formats.rle import from_runs
from .tubes import Json, Truth, Tube, num_frames, read_tubes

_METRICS = ("HOTA", "DetA", "AssA", "IDF1")


def track_quality(
    gt_json: Truth, results_json: Json, score_threshold: float = 0.5
) -> dict[str, float]:
    """Score tracks by the similarity of their masks frame by frame.

    Args:
        gt_json, results_json: as ``evaluate_ytvis`` takes them; objects marked as crowd are left
            out.
        score_threshold: results with a lower score are left out, as tracks have no ranking.

    Returns:
        percent: HOTA, DetA and AssA (means over the thresholds 0.05 to 0.95) and IDF1, each the
        mean over the classes that occur; and the same with ``-<class>``.

    Raises:
        ImportError: TrackEval is not installed.
        FileNotFoundError, UserError: as ``evaluate_ytvis``.
    """
    metrics = _metrics()
    gt, true_tubes, found_tubes = read_tubes(gt_json, results_json)
    truth, guess = (defaultdict(list) for _ in range(2))
    for tube in true_tubes:
        if not tube.entry.get("iscrowd"):
            truth[tube.video["id"], tube.entry["category_id"]].append(tube)
    for tube in found_tubes:
        if tube.entry["score"] >= score_threshold:
            guess[tube.video["id"], tube.entry["category_id"]].append(tube)

    by_class = {}
    for category in gt["categories"]:
        sequences = {
            video["id"]: _sequence(video, truth[key], guess[key])
            for video in gt["videos"]
            for key in [(video["id"], category["id"])]
            if truth[key] or guess[key]
        }
        if sequences:
            by_class[category["name"]] = _score(metrics, sequences)
    if not by_class:
        return dict.fromkeys(_METRICS, float("nan"))
    means = {k: float(np.mean([scores[k] for scores in by_class.values()])) for k in _METRICS}
    return means | {
        f"{name}-{label}": scores[name] for label, scores in by_class.items() for name in _METRICS
    }


def _metrics() -> list[Any]:
    try:
        from trackeval.metrics import HOTA, Identity
    except ModuleNotFoundError as error:
        raise MissingPackageError("HOTA and IDF1 need TrackEval: pip install trackeval") from error
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its settings
        return [HOTA(), Identity({"THRESHOLD": 0.5, "PRINT_CONFIG": False})]


def _score(metrics: Sequence[Any], sequences: Mapping[Any, Mapping[str, Any]]) -> dict[str, float]:
    values: dict[str, Any] = {}
    for metric in metrics:
        results = {key: metric.eval_sequence(data) for key, data in sequences.items()}
        values |= metric.combine_sequences(results)
    return {name: 100 * float(np.mean(values[name])) for name in _METRICS}


def _sequence(
    video: Mapping[str, Any], truth: Sequence[Tube], guess: Sequence[Tube]
) -> dict[str, Any]:
    """Return what TrackEval's metrics take: ids by frame, and the IoU of their masks."""
    frames = [[_shown(tubes, t) for tubes in (truth, guess)] for t in range(num_frames(video))]
    return {
        "num_timesteps": num_frames(video),
        "num_gt_ids": len(truth),
        "num_tracker_ids": len(guess),
        "num_gt_dets": sum(len(gt) for gt, _ in frames),
        "num_tracker_dets": sum(len(dt) for _, dt in frames),
        "gt_ids": [np.array(list(gt), dtype=int) for gt, _ in frames],
        "tracker_ids": [np.array(list(dt), dtype=int) for _, dt in frames],
        "similarity_scores": [_similarity(list(g.values()), list(d.values())) for g, d in frames],
    }


def _shown(tubes: Sequence[Tube], t: int) -> dict[int, Any]:
    """Return the RLE of the tubes that are to be seen in frame t, by their index."""
    return {
        i: from_runs(runs, tube.video["height"], tube.video["width"])
        for i, tube in enumerate(tubes)
        for runs in [tube.runs[t]]
        if runs is not None and runs[1::2].any()
    }


def _similarity(gts: list[Any], dts: list[Any]) -> np.ndarray:
    if not gts or not dts:
        return np.zeros((len(gts), len(dts)))
    return mask_util.iou(gts, dts, [0] * len(dts))
