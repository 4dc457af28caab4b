"""The table, the json file and the plot that a run leaves."""

import json
import os
import platform
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mask2former.formats.atomic import atomic_path

from .timing import Row

COLUMNS = ("what", "unit", "ours", "peer", "ratio", "wanted", "beside")


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    flags = next((line for line in _cpuinfo() if line.startswith("flags")), "").split()
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def has_bf16(device: str) -> bool:
    """Return whether a device computes in bfloat16; others imitate it, ten times slower than
    float32."""
    return device == "cuda" or bool({"avx512_bf16", "amx_bf16"} & set(machine()["instructions"]))


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def wanted(row: Row) -> tuple[str, bool | None]:
    """Return what a row aims at, as text, and whether it is reached (None where it aims at
    nothing)."""
    if row.get("min_ratio") is not None:
        return f">= {row['min_ratio']:g}", row["ratio"] >= row["min_ratio"]
    if row.get("max_ratio") is not None:
        return f"<= {row['max_ratio']:g}", row["ratio"] <= row["max_ratio"]
    if row.get("max_value") is not None:
        limit = row["max_value"]
        return f"ours <= {limit:g} {row['unit']}", row["ours"] <= limit
    return "", None


HEAD = "| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS)  # of a Markdown table


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of all rows."""
    return "\n".join([HEAD, *map(line_of, rows)])


def line_of(row: Row) -> str:
    """Return the line of a table for one row."""
    aim, reached = wanted(row)
    aim += {True: " yes", False: " NO", None: ""}[reached]
    numbers = [_number(row.get(key)) for key in ("ours", "peer", "ratio")]
    cells = [row["what"], row["unit"], *numbers, aim, row.get("peer_name", "")]
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def save(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write results.json, results.md and, where growth was measured, growth.png; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    about = machine()
    with atomic_path(folder / "results.json") as temporary:
        temporary.write_text(json.dumps({"machine": about, "rows": list(rows)}, indent=1))
    with atomic_path(folder / "results.md") as temporary:
        temporary.write_text(f"{json.dumps(about)}\n\n{table(rows)}\n")
    paths = [folder / "results.json", folder / "results.md"]
    points = [row for row in rows if "cause" in row]
    if points:
        plot(points, folder / "growth.png")
        paths.append(folder / "growth.png")
    return paths


def plot(points: Sequence[Row], path: Path) -> None:
    """Draw time and memory over every cause, on logarithmic axes."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    curves: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = defaultdict(dict)
    for row in points:
        curve = curves[row["unit"], row["cause"]].setdefault(row["series"], [])
        curve.append((row["amount"], row["ours"]))
    causes = list(dict.fromkeys(row["cause"] for row in points))
    labels = {"s": "seconds", "GB": "peak memory, GB"}
    figure, axes = pyplot.subplots(
        len(labels), len(causes), figsize=(3.5 * len(causes), 6), squeeze=False
    )
    for line, unit in zip(axes, labels):
        for axis, cause in zip(line, causes):
            for series, values in curves[unit, cause].items():
                axis.loglog(*zip(*sorted(values)), marker="o", label=series)
            axis.set_xlabel(cause)
            axis.grid(True, which="both", alpha=0.3)
        line[0].set_ylabel(labels[unit])
        line[0].legend()
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)
