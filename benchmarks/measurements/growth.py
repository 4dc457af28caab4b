"""How time and memory grow with pixels, queries, batch and the frames of a clip.

An exponent of 1 means that time grows as its cause does. Part of the work does not depend on the
number of queries at all, so there the exponent is far below.
"""

from collections.abc import Callable, Iterator, Sequence

from ..memory import peak_and_time
from ..timing import Row, slope

SIZES = [(256, 384), (480, 704), (800, 1216)]
QUERIES = [50, 200]  # the ends, through which the power law goes
BATCHES = [1, 4]
FRAMES = [2, 8]
SMALL = (256, 384)  # of the image where something else grows


def measure(rounds: int, quick: bool = False) -> Iterator[Row]:
    """Yield points of every curve, and the exponents of the power laws through them.

    They are timed once each, as what counts is how they compare over a wide range. `quick` takes
    the two smaller images and batches alone.
    """
    rounds = min(rounds, 1)
    sizes = SIZES[:2] if quick else SIZES
    height, width = SMALL
    yield from _curve(
        "pixels",
        sizes,
        [h * w for h, w in sizes],
        lambda size: ("ours", {"height": size[0], "width": size[1]}),
        rounds,
    )
    if not quick:
        yield from _peer_curve([sizes[0], sizes[-1]], rounds)
    for cause, values, case, argument in (
        ("images of a batch", BATCHES, "batch", "size"),
        ("queries", QUERIES, "ours", "queries"),
        ("frames of a clip", FRAMES, "clip", "frames"),
    )[: 1 if quick else 3]:
        yield from _curve(
            cause,
            values,
            values,
            lambda v, c=case, a=argument: (c, {"height": height, "width": width, a: v}),
            rounds,
        )


def _curve(
    cause: str,
    values: Sequence,
    amounts: Sequence[float],
    case_of: Callable[..., tuple[str, dict]],
    rounds: int,
    series: str = "ours",
) -> Iterator[Row]:
    """Time and memory at every value of a cause, and the exponents."""
    times, peaks = [], []
    for value, amount in zip(values, amounts):
        case, arguments = case_of(value)
        peak, time = peak_and_time(case, rounds, **arguments)
        times.append(time)
        peaks.append(peak)
        shown = "x".join(map(str, value)) if isinstance(value, tuple) else value
        for unit, number in (("s", times[-1]), ("GB", peaks[-1])):
            point = {"cause": cause, "amount": amount, "series": series}
            what = f"growth with {cause}, {shown}" + ("" if series == "ours" else f", {series}")
            yield {"what": what, "unit": unit, "ours": number, **point, "rounds": rounds}
    for name, numbers in (("time", times), ("peak memory", peaks)):
        what = f"growth with {cause}: exponent of {name}" + (
            "" if series == "ours" else f", {series}"
        )
        yield {"what": what, "unit": "", "ours": slope(amounts, numbers), "rounds": rounds}


def _peer_curve(sizes: Sequence[tuple[int, int]], rounds: int) -> Iterator[Row]:
    return _curve(
        "pixels",
        sizes,
        [h * w for h, w in sizes],
        lambda size: ("transformers", {"height": size[0], "width": size[1]}),
        rounds,
        series="transformers",
    )
