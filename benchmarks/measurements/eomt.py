"""EoMT on a square image: end to end in fp32 and bf16, and peak memory."""

from collections.abc import Iterator

from .. import cases
from ..memory import compare_peaks, peak_of
from ..report import has_bf16
from ..timing import Row, compare

PEER = "transformers"
SIDE, QUICK_SIDE = 640, 320


def measure(rounds: int, quick: bool = False) -> Iterator[Row]:
    """Yield all rows of this topic; `quick` takes a smaller image, which the model enlarges."""
    side = QUICK_SIDE if quick else SIDE
    for precision in ("fp32", "bf16") if has_bf16(cases.DEVICE) else ("fp32",):
        yield compare(
            f"EoMT, base ViT, image {side}x{side}, {precision}",
            cases.our_eomt(side, PRECISION=precision),
            cases.transformers_eomt(side, PRECISION=precision),
            rounds,
            peer_name=f"{PEER}, {precision}",
            min_ratio=1.3,
        )
    yield compare_peaks(
        f"EoMT, base ViT, image {side}x{side}",
        lambda: peak_of("our_eomt", side=side),
        lambda: peak_of("transformers_eomt", side=side),
        1,
        peer_name=PEER,
        max_ratio=1.0,
    )
