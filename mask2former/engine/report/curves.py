"""Curves of a training, read from its metrics.json."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MAX_POINTS = 600  # of a curve that is drawn; a page is hardly wider
MAX_ITERATION = 2**53  # up to which floats tell whole numbers apart


class Curve(NamedTuple):
    """Values (N,) by iteration (N,), which counts from 0 and ascends."""

    iterations: np.ndarray
    values: np.ndarray


def read_curves(path: Path) -> dict[str, Curve]:
    """Read what detectron2's JSONWriter writes, a line of json for each of some iterations.

    Of a run that was resumed, or started again in the same folder, what came later counts from its
    first iteration on. Lines that are damaged, as a killed run leaves them, are left out.

    Returns:
        curves by name; empty where there is no such file.
    """
    points: dict[str, dict[int, float]] = defaultdict(dict)
    last = -1
    for iteration, scalars in _lines(path):
        if iteration < last:
            for name in list(points):
                points[name] = {i: v for i, v in points[name].items() if i < iteration}
        last = iteration
        for name, value in scalars.items():
            points[name][iteration] = value
    return {
        name: Curve(np.array(list(found), np.int64), np.array(list(found.values()), np.float64))
        for name, found in points.items()
        if found
    }


def _lines(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                scalars = json.loads(line)
                iteration = int(scalars.pop("iteration"))
                if not 0 <= iteration <= MAX_ITERATION:
                    continue
                yield iteration, {str(k): float(v) for k, v in scalars.items()}
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
                continue


def loss_family(name: str) -> str | None:
    """Return what losses of decoder layers share ("loss_mask_3": "mask"); None for other names."""
    match = re.fullmatch(r"loss_(.+?)(_\d+)?", name)
    return match[1] if match else None


def loss_curves(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Return the sum of all losses, then those of each kind over the layers of the decoder."""
    found = {"sum": curves["total_loss"]} if "total_loss" in curves else {}
    families: dict[str, list[Curve]] = defaultdict(list)
    for name, curve in curves.items():
        if family := loss_family(name):
            families[family].append(curve)
    for family, parts in sorted(families.items()):
        shared = parts[0].iterations
        if all(np.array_equal(part.iterations, shared) for part in parts):
            found[family] = Curve(shared, sum(part.values for part in parts))
    return found


def task_and_metric(name: str) -> tuple[str, str]:
    """Split "task/metric", or "task/metric-class", where the class may have slashes."""
    of_class = re.fullmatch(r"(.*?)/(\w+-.*)", name, re.DOTALL)
    if of_class:
        return of_class[1], of_class[2]
    task, _, metric = name.rpartition("/")
    return task, metric


def metric_curves(curves: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    """Return the curves of scores by task and name, those of single classes apart."""
    found: dict[str, dict[str, Curve]] = defaultdict(dict)
    for name, curve in curves.items():
        task, metric = task_and_metric(name)
        is_known = task and "-" not in metric and not task.startswith("best/")
        if is_known and not np.isnan(curve.values).all():
            found[task][metric] = curve
    return dict(found)


def thinned(curve: Curve, limit: int = _MAX_POINTS) -> Curve:
    """Return a curve of at most ``limit`` points, each the mean of its neighbours."""
    count = len(curve.values)
    if count <= limit:
        return curve
    starts = np.linspace(0, count, limit, endpoint=False).astype(np.int64)
    sizes = np.diff(np.append(starts, count))
    means = np.add.reduceat(curve.values, starts) / sizes
    return Curve(curve.iterations[starts + sizes - 1], means)


def best(name: str, curve: Curve) -> tuple[float, int]:
    """Return the best value of a score and its iteration: the highest, of losses the lowest."""
    values = -curve.values if is_lower_better(name) else curve.values
    at = int(np.nanargmax(values))
    return float(curve.values[at]), int(curve.iterations[at])


def is_lower_better(name: str) -> bool:
    """Tell whether a score of this name is better the lower it is."""
    return "loss" in name or "error" in name
