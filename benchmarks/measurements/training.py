"""The training step: time and peak memory."""

from collections.abc import Iterator

from .. import cases
from ..memory import compare_peaks, peak_of
from ..timing import Row, compare

PEER = "transformers"
SIDE, QUICK_SIDE = 512, 256  # of the crops, in pixels


def measure(rounds: int, quick: bool = False) -> Iterator[Row]:
    """Yield all rows of this topic; `quick` takes smaller crops."""
    side = QUICK_SIDE if quick else SIDE
    what = f"training step, {side}x{side} crops, batch 2, 20 targets an image, fp32"
    arguments = {"side": side, "size": 2, "targets": 20}
    yield compare(
        what,
        cases.our_step(**arguments),
        cases.transformers_step(**arguments),
        rounds,
        peer_name=PEER,
        min_ratio=1.7,
    )
    yield compare_peaks(
        what,
        lambda: peak_of("our_step", **arguments),
        lambda: peak_of("transformers_step", **arguments),
        1,  # other than times, peaks hardly vary
        peer_name=PEER,
        max_ratio=0.7,
    )
