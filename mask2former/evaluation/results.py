"""Results as json, as tables for people, and with the model and versions that they are of."""

import hashlib
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from ..formats.json_files import require_number, write_json
from ..formats.rle import encode_masks

_PACKAGES = ("mask2former", "detectron2", "torch", "torchvision", "numpy", "pycocotools")
_GROUPS = ("All", "Things", "Stuff")


def text_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in plain text; floats get two decimals, NaN a dash."""
    cells = [list(header)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def results_table(results: Mapping[str, Any], per_class: bool = False) -> str:
    """Return a table of what evaluators return, one line a metric.

    Args:
        results: ``{task: {metric: score}}`` with scores in percent.
        per_class: keep the metrics of single classes, which have a dash in their names.
    """
    rows = [
        (task, metric, score)
        for task, scores in results.items()
        for metric, score in (scores.items() if isinstance(scores, Mapping) else [("", scores)])
        if per_class or "-" not in metric
    ]
    return text_table(("task", "metric", "score"), rows) if rows else "no results"


def class_table(results: Mapping[str, Any]) -> str:
    """Return a table of what evaluators return of single classes, one line a class; "" without any.

    Args:
        results: ``{task: {metric: score}}``; metrics of a class are called "AP-dog".
    """
    columns: dict[str, None] = {}
    classes: dict[str, dict[str, float]] = {}
    for task, scores in results.items():
        for metric, score in scores.items() if isinstance(scores, Mapping) else ():
            kind, dash, name = metric.partition("-")
            if dash:
                column = f"{task} {kind}"
                columns[column] = None
                classes.setdefault(name, {})[column] = score
    if not columns:
        return ""
    rows = [(name, *(of.get(c, float("nan")) for c in columns)) for name, of in classes.items()]
    return text_table(("class", *columns), rows)


def quality_table(summary: Mapping[str, Any]) -> str:
    """Return the table of what ``pq_compute`` returns, in percent."""
    rows = [
        (name, *(100 * summary[name][key] for key in ("pq", "sq", "rq")), str(summary[name]["n"]))
        for name in _GROUPS
    ]
    return text_table(("", "PQ", "SQ", "RQ", "categories"), rows)


def write_results(
    path: str | os.PathLike[str],
    results: Mapping[str, Any],
    *,
    cfg: Any = None,
    weights: str | os.PathLike[str] | None = None,
) -> None:
    """Write results as json, atomically.

    The file holds ``results`` (NaN as null), ``config`` (all keys, nested), ``weights`` (path and
    SHA-256 of the file, null where there is no such file) and ``versions``.

    Args:
        path: json file to write.
        results: what evaluators return.
        cfg: detectron2 config, or None.
        weights: checkpoint that was evaluated; ``cfg.MODEL.WEIGHTS`` where it is None.
    """
    if weights is None and cfg is not None:
        weights = cfg.MODEL.WEIGHTS or None
    value = {
        "results": results,
        "weights": None if weights is None else _weights_facts(weights),
        "versions": versions(),
        "config": None if cfg is None else yaml.safe_load(cfg.dump()),
    }
    write_json(path, value, indent=1)


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of packages that can move results; None = not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _weights_facts(weights: str | os.PathLike[str]) -> dict[str, str | None]:
    sha256 = None
    if Path(weights).is_file():  # a URL or a name of the model zoo is no file: its hash is unknown
        with open(weights, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": os.fspath(weights), "sha256": sha256}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.2f}"
    return str(value)


def results_of_clip(
    inputs: Sequence[Mapping[str, Any]], outputs: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Turn the output of a clip into YouTube-VIS results, whose classes are contiguous still.

    Args:
        inputs: of the clip alone.
        outputs: see `YTVISEvaluator.process`.

    Raises:
        UserError: a score is no finite number.
    """
    (clip,) = inputs
    for i, score in enumerate(outputs["pred_scores"]):
        require_number(float(score), f"video {clip['video_id']}: pred_scores[{i}]")
    tubes = (outputs[key] for key in ("pred_scores", "pred_labels", "pred_masks"))
    return [
        {
            "video_id": clip["video_id"],
            "score": float(score),
            "category_id": int(label),
            "segmentations": encode_masks(masks),
        }
        for score, label, masks in zip(*tubes, strict=True)
    ]
