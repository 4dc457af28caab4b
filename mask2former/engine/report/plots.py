"""Plots of a report, as SVG inside of the page, by matplotlib."""

import io
import re
import warnings
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os.path import commonprefix
from typing import Any

import numpy as np

from ...errors import MissingPackageError
from .curves import Curve, thinned

_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e0",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",  # letters of the browser: smaller, and they can be searched
    "text.parse_math": False,  # dollars in names are dollars
}
_SIZE = (4.6, 2.9)  # inches
_PLACE = (0.12, 0.16, 0.85, 0.73)  # of the axes; to have it computed doubles the time
_DASHES = ("-", "--", ":", "-.")  # for each round through the colours
_WIDE = 5  # ratio of the highest and the lowest value from which on a logarithmic scale pays
_FEW = 25  # points of a curve up to which each is marked
_ROOM = 120  # letters in a legend up to which it stands among the curves; else beside them
_ROWS = 18  # of a legend beside the curves
_LONGEST = 40  # letters of a name; the middle of longer ones is left out
_NO_LETTERS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # an SVG has none


def line_chart(title: str, curves: Mapping[str, Curve], *, log: bool = False) -> str:
    """Return a chart of values over iterations as an ``<svg>`` element.

    Args:
        curves: by the name in the legend.
        log: whether values are shown on a logarithmic scale, if they are above 0 and vary much.
    """
    ticker = _matplotlib().ticker
    names = _told_apart(list(curves))
    is_beside = len(names) * max(map(len, names)) > _ROOM
    room = 0.5 + 0.06 * max(map(len, names)) if is_beside else 0.0  # inches for one column
    columns = 1 + (len(names) - 1) // _ROWS if is_beside else 1 + (len(names) > 6)
    width, height = _SIZE[0] + columns * room, _SIZE[1]
    left, bottom, wide, high = _PLACE
    place = (left * _SIZE[0] / width, bottom, wide * _SIZE[0] / width, high)
    with _figure(title, (width, height), place) as (figure, axes):
        for i, curve in enumerate(curves.values()):
            points = thinned(curve)
            marker = "o" if len(points.values) <= _FEW else ""
            style = _DASHES[i // 10 % len(_DASHES)]
            axes.plot(points.iterations + 1, points.values, style, marker=marker, ms=3)
        if log and _spread(curves) > _WIDE:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(ticker.NullLocator())
        elif max(map(_highest, curves.values())) < 1e-3:  # such as learning rates
            axes.yaxis.set_major_formatter(lambda value, _: _short(value))
        axes.xaxis.set_major_locator(ticker.MaxNLocator(8, integer=True))
        axes.set_xlabel("iteration")
        if len(curves) > 1:
            beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.0}
            axes.legend(axes.lines, names, ncols=columns, **(beside if is_beside else {}))
        return _svg(figure)


def precision_chart(title: str, curves: Mapping[str, Sequence[float | None]]) -> str:
    """Return precision over recall as an ``<svg>`` element; see `precision_curves`."""
    with _figure(title) as (figure, axes):
        recall = np.array(curves["recall"], float)
        for name, values in curves.items():
            if name != "recall":
                label = "mean of all IoUs" if name == "mean" else f"IoU {name}"
                axes.plot(recall, np.array(values, float), label=label)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.legend()
        return _svg(figure)


def confusion_chart(fractions: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Return a table of fractions (R, C) in 0..1 as an ``<svg>`` element, true classes down."""
    rows, columns = [_shown(name) for name in rows], [_shown(name) for name in columns]
    room = 0.11 * max(map(len, (*rows, *columns)))  # inches for the names
    side = max(2.5, 1.2 + room) + 0.2 * len(columns)
    place = (room / side + 0.08, room / side + 0.08, 0.9 - room / side, 0.9 - room / side)
    with _figure("", (side, side), place) as (figure, axes):
        axes.grid(False)
        axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(columns)), columns, rotation=90)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel="predicted", ylabel="true")
        for y, x in zip(*np.nonzero(fractions >= 0.01)) if len(rows) <= 30 else ():
            colour = "white" if fractions[y, x] > 0.6 else "#333"
            text = f"{100 * fractions[y, x]:.0f}"
            axes.text(x, y, text, ha="center", va="center", fontsize=6, color=colour)
        return _svg(figure)


def _spread(curves: Mapping[str, Curve]) -> float:
    """Return the ratio of the highest and the lowest value, 0 where one is not above 0."""
    values = np.concatenate([curve.values for curve in curves.values()])
    return float(values.max() / values.min()) if (values > 0).all() else 0.0


def _highest(curve: Curve) -> float:
    return float(np.nanmax(np.abs(curve.values), initial=0.0))


def _short(value: float) -> str:
    """Return a number near 0 in a few letters: "1.04e-4"."""
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(power)}" if value else "0"


def _shown(name: str) -> str:
    """Return a name as a chart shows it, on one line that is not too long."""
    name = _NO_LETTERS.sub("\ufffd", name)
    if len(name) > _LONGEST:
        name = f"{name[: _LONGEST // 2]}...{name[3 - _LONGEST // 2 :]}"
    return f"\u200b{name}" if name.startswith("_") else name  # matplotlib would leave it out


def _told_apart(names: Sequence[str]) -> list[str]:
    """Return names as `_shown` does; where two became the same, without what all have in common."""
    shown = [_shown(name) for name in names]
    if len(set(shown)) == len(names):
        return shown
    start = len(commonprefix(names))
    end = len(commonprefix([name[start:][::-1] for name in names]))
    return [_shown(f"...{name[start : len(name) - end]}...") for name in names]


def _matplotlib() -> Any:
    try:
        import matplotlib
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError as error:
        raise MissingPackageError(
            "Reports are drawn by matplotlib, which is not installed: pip install matplotlib"
        ) from error
    return matplotlib


@contextmanager
def _figure(
    title: str, size: tuple[float, float] = _SIZE, place: tuple[float, ...] = _PLACE
) -> Iterator[tuple[Any, Any]]:
    """Lend a figure and its axes, which pyplot does not keep."""
    mpl = _matplotlib()
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has other fonts
        figure = mpl.figure.Figure(figsize=size)
        axes = figure.add_axes(place)
        axes.set_title(_shown(title), loc="left", fontsize=10, y=1)
        yield figure, axes


def _svg(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    picture = b64encode(buffer.getvalue()).decode()
    return f'<img class=plot alt="" src="data:image/svg+xml;base64,{picture}">'
