"""What a report shows of a run, in HTML."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import page, plots
from .curves import Curve, best, loss_curves, task_and_metric
from .pictures import inline_file, worst_pictures
from .run import Run

_MAX_CLASSES = 40  # that a table of confusions shows
_MAIN = ("PQ", "AP", "mIoU", "AP50", "accuracy")  # of a task, the first that it has
_PICTURED = ("panoptic_seg", "segm", "sem_seg")
_OTHERS = {
    "lr": "learning rate",
    "time": "seconds per iteration",
    "data_time": "seconds of waiting for data",
    "memory_mib": "peak memory in MiB",
}


def sections(run: Run) -> Iterator[tuple[str, str]]:
    """Yield headings and contents of the page about one run; contents may be empty."""
    yield "Scores", scores(run)
    yield "Losses and speed", page.plots(training_charts(run))
    yield "Scores over the training", page.plots(score_charts(run))
    yield "Classes", per_class(run)
    yield "Confused classes", confusions(run)
    yield "Precision and recall", page.plots(precision(run))
    yield "Predictions beside the truth, the worst images first", predictions(run)
    sources = [inline_file(path) for path in run.training_pictures]
    yield "Training images as the model sees them, under their targets", page.pictures(sources)
    yield "What the config changes", changes(run)
    yield "Environment", environment(run)


def scores(run: Run) -> str:
    """Return a table of the last and the best score of every metric."""
    found = run.metrics()
    rows: list[Sequence[Any]] = []
    for task, curves in found.items():
        for metric, curve in curves.items():
            value, iteration = best(f"{task}/{metric}", curve)
            rows.append((task, metric, float(curve.values[-1]), value, iteration + 1))
    known = {f"{task}/{metric}" for task, metric, *_ in rows}
    for name, value in run.results.items():  # evaluated without a training, or apart from it
        task, metric = task_and_metric(name)
        if name not in known and "-" not in metric:
            rows.append((task, metric, value, None, None))
    if not rows:
        return page.note("There has been no evaluation yet.")
    main = [row for row in rows if row[1] == main_metric([r[1] for r in rows if r[0] == row[0]])]
    header = ("task", "score", "last", "best", "at iteration")
    others = [row for row in rows if row not in main]
    rest = page.folded(f"{len(others)} more", page.table(header, others)) if others else ""
    return page.table(header, main) + rest


def score_charts(run: Run) -> Iterator[str]:
    """Yield a chart for each task that was evaluated more than once."""
    for task, curves in run.metrics().items():
        if any(len(curve.values) > 1 for curve in curves.values()):
            yield plots.line_chart(task, curves)


def main_metric(metrics: Sequence[str]) -> str:
    """Return the metric by which people name the quality of a task."""
    return next((name for name in _MAIN if name in metrics), metrics[0])


def training_charts(run: Run) -> list[str]:
    """Return charts of losses, learning rate, speed and memory."""
    losses = loss_curves(run.curves)
    total = {name: losses.pop(name) for name in ("sum",) if name in losses}
    charts = [plots.line_chart("sum of all losses", total, log=True)] if total else []
    if losses:
        charts.append(
            plots.line_chart("losses, summed over the decoder's layers", losses, log=True)
        )
    for name, title in _OTHERS.items():
        if name in run.curves:
            charts.append(plots.line_chart(title, {name: run.curves[name]}))
    return charts


def per_class(run: Run) -> str:
    """Return bars of each class, the worst first, for each task."""
    families: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in run.results.items():
        task, metric = task_and_metric(name)
        kind, dash, label = metric.partition("-")
        if dash and value is not None and np.isfinite(value):
            families[f"{task} {kind}"][label] = float(value)
    for task, details in run.details.items():
        for label, values in details.get("per_class", {}).items():
            families[f"{task} PQ"].setdefault(label, float(values["PQ"]))
    shown = [name for name in families if not name.endswith("ACC")]
    ordered = {name: dict(sorted(families[name].items(), key=lambda x: x[1])) for name in shown}
    return "".join(page.bars(f"{name}, percent", values) for name, values in ordered.items())


def confusions(run: Run) -> str:
    """Return tables of true by predicted class, and the largest confusions in words."""
    parts = []
    for task, details in run.details.items():
        if "confusion" not in details:
            continue
        counts = np.array(details["confusion"], float)
        names = [*details["classes"], "none"]
        fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        wrong = fractions.copy()
        np.fill_diagonal(wrong, 0)
        pairs = [(*np.unravel_index(i, wrong.shape), wrong.flat[i]) for i in _largest(wrong, 8)]
        rows = [(names[y], names[x], f"{100 * v:.1f} %") for y, x, v in pairs if v > 0]
        kept = _most_confused(counts, wrong)
        columns = [*kept, len(names) - 1] if counts[:, -1].any() else kept
        chart = plots.confusion_chart(
            fractions[np.ix_(kept, columns)], [names[i] for i in kept], [names[i] for i in columns]
        )
        few = f" (the {len(kept)} most confused classes)" if len(kept) < len(names) - 1 else ""
        parts.append(page.note(f"{task}: percent of the pixels of a true class{few}"))
        parts.append(page.plots([chart, page.table(("true", "taken for", "pixels"), rows)]))
    return "".join(parts)


def _largest(values: np.ndarray, count: int) -> list[int]:
    """Return the positions of the largest values of all, in descending order."""
    count = min(count, values.size)
    found = np.argpartition(values, values.size - count, axis=None)[values.size - count :]
    return sorted(found.tolist(), key=lambda i: (-values.flat[i], i))


def _most_confused(counts: np.ndarray, wrong: np.ndarray) -> list[int]:
    """Return the classes, all or those of which most is confused, in their order."""
    present = np.flatnonzero((counts.sum(axis=1) > 0) | (counts[:, :-1].sum(axis=0) > 0))
    if len(present) > _MAX_CLASSES:
        weight = wrong.sum(axis=1) + wrong[:, :-1].sum(axis=0)
        present = np.sort(present[np.argsort(-weight[present], kind="stable")[:_MAX_CLASSES]])
    return present.tolist()


def precision(run: Run) -> Iterator[str]:
    """Yield charts of precision over recall."""
    for task, details in run.details.items():
        curves = details.get("curves", {})
        if any(value is not None for value in curves.get("mean", [])):
            yield plots.precision_chart(task, curves)


def predictions(run: Run) -> str:
    """Return the worst images of the last evaluation, of the richest task for each dataset."""
    parts = []
    for folder in sorted({name.rpartition("/")[0] for name in run.details}):
        names = [f"{folder}/{task}" if folder else task for task in _PICTURED]
        found = (name for name in names if run.details.get(name, {}).get("worst"))
        if name := next(found, None):
            text = f"{name}: prediction left, truth right, with the score of the image"
            parts.append(page.note(text))
            details = run.details[name]
            pictures = worst_pictures(details["worst"], details.get("colours", {}))
            parts.append(page.pairs(pictures))
    return "".join(parts)


def changes(run: Run) -> str:
    """Return a table of the keys in which the config differs from its base."""
    base = run.facts.get("base", "the defaults")
    rows = [(key, *map(_short, values)) for key, *values in run.changes()]
    return page.table(("key", str(base), "this run"), rows)


def environment(run: Run) -> str:
    """Return a table of what `run_facts` noted."""
    facts: Mapping[str, Any] = run.facts
    if not facts:
        return page.note("run.json is missing: the run was started before there were reports.")
    machine, versions = facts.get("machine", {}), facts.get("versions", {})
    rows = [(key, facts.get(key)) for key in ("started", "command", "commit")]
    rows += [(key, _short(value)) for key, value in machine.items()]
    rows += [(package, version) for package, version in versions.items()]
    return page.table(("what", "value"), rows)


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 300 else f"{text[:300]} ..."


def comparison(runs: Mapping[str, Run]) -> Iterator[tuple[str, str]]:
    """Yield headings and contents of the page about several runs."""
    tasks: dict[str, dict[str, dict[str, Curve]]] = defaultdict(lambda: defaultdict(dict))
    for name, run in runs.items():
        for task, curves in run.metrics().items():
            for metric, curve in curves.items():
                tasks[task][metric][name] = curve
    main = {task: main_metric(list(metrics)) for task, metrics in tasks.items()}
    rows = []
    for name, run in runs.items():
        row: list[Any] = [name, run.state]
        for task, metric in main.items():
            curve = tasks[task][metric].get(name)
            row.append(best(f"{task}/{metric}", curve)[0] if curve else None)
        speed = run.curves.get("time")
        rows.append([*row, float(np.median(speed.values)) if speed else None])
    header = ["run", "state", *(f"best {task} {metric}" for task, metric in main.items())]
    yield "Runs", page.table([*header, "s/iteration"], rows)
    losses = {name: run.curves["total_loss"] for name, run in runs.items() if run.done}
    charts = [plots.line_chart("sum of all losses", losses, log=True)] if losses else []
    for key, title in _OTHERS.items():
        lines = {name: run.curves[key] for name, run in runs.items() if key in run.curves}
        charts += [plots.line_chart(title, lines)] if lines else []
    yield "Losses and speed", page.plots(charts)
    for task, metrics in tasks.items():
        charts = [plots.line_chart(metric, lines) for metric, lines in metrics.items()]
        yield task, page.plots(charts)
    yield "Config keys that differ", _differing(runs)


def _differing(runs: Mapping[str, Run]) -> str:
    keys = dict.fromkeys(key for run in runs.values() for key in run.config)
    rows = []
    for key in keys:
        values = [_short(run.config.get(key)) for run in runs.values()]
        if len(set(values)) > 1 and key != "OUTPUT_DIR":
            rows.append((key, *values))
    return page.table(("key", *runs), rows)
