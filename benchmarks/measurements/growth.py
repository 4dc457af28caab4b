"""How time and memory grow with pixels, queries, batch and the frames of a clip.

An exponent of 1 means that time grows as its cause does. Part of the work does not depend on the
number of queries at all, so there the exponent is far below.
"""

from collections.abc import Callable, Sequence

from ..memory import peak_and_time
from ..timing import Row, slope

SIZES = [(256, 384), (480, 704), (800, 1216)]
QUERIES = [50, 100, 200]
BATCHES = [1, 2, 4]
FRAMES = [2, 4, 8]
SMALL = (256, 384)  # of the image where something else grows


def measure(rounds: int, quick: bool = False) -> list[Row]:
    """Return points of every curve, and the exponents of the power laws through them."""
    stop = 2 if quick else None
    height, width = SMALL
    rows = _curve(
        "pixels",
        SIZES[:stop],
        [h * w for h, w in SIZES[:stop]],
        lambda size: ("ours", {"height": size[0], "width": size[1]}),
        rounds,
    )
    rows += _peer_curve(SIZES[:stop], rounds)
    for cause, values, case, argument in (
        ("queries", QUERIES, "ours", "queries"),
        ("images of a batch", BATCHES, "batch", "size"),
        ("frames of a clip", FRAMES, "clip", "frames"),
    ):
        values = values[:stop]
        rows += _curve(
            cause,
            values,
            values,
            lambda v, c=case, a=argument: (c, {"height": height, "width": width, a: v}),
            rounds,
        )
    return rows


def _curve(
    cause: str,
    values: Sequence,
    amounts: Sequence[float],
    case_of: Callable[..., tuple[str, dict]],
    rounds: int,
    series: str = "ours",
) -> list[Row]:
    """Time and memory at every value of a cause, and the exponents."""
    rows, times, peaks = [], [], []
    for value, amount in zip(values, amounts):
        case, arguments = case_of(value)
        peak, time = peak_and_time(case, rounds, **arguments)
        times.append(time)
        peaks.append(peak)
        shown = "x".join(map(str, value)) if isinstance(value, tuple) else value
        for unit, number in (("s", times[-1]), ("GB", peaks[-1])):
            point = {"cause": cause, "amount": amount, "series": series}
            what = f"growth with {cause}, {shown}" + ("" if series == "ours" else f", {series}")
            rows.append({"what": what, "unit": unit, "ours": number, **point, "rounds": rounds})
    for name, numbers in (("time", times), ("peak memory", peaks)):
        what = f"growth with {cause}: exponent of {name}" + (
            "" if series == "ours" else f", {series}"
        )
        rows.append({"what": what, "unit": "", "ours": slope(amounts, numbers), "rounds": rounds})
    return rows


def _peer_curve(sizes: Sequence[tuple[int, int]], rounds: int) -> list[Row]:
    return _curve(
        "pixels",
        sizes,
        [h * w for h, w in sizes],
        lambda size: ("transformers", {"height": size[0], "width": size[1]}),
        rounds,
        series="transformers",
    )
