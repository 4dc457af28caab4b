"""Inference on images: end to end, by stage, peak memory and multiply-adds."""

from collections.abc import Iterator

from torch.utils.flop_counter import FlopCounterMode

from mask2former.ops.linear import use_linear

from .. import cases
from ..memory import compare_peaks, peak_of
from ..report import has_bf16
from ..timing import Row, compare
from . import stages

PEER = "transformers"
SIZE, QUICK_SIZE = (800, 1216), (320, 480)
LARGE = {"height": 2048, "width": 4096, "queries": 200, "SEMANTIC_ON": False}


def measure(rounds: int, quick: bool = False) -> Iterator[Row]:
    """Yield all rows of this topic; `quick` takes a smaller image and leaves out the largest."""
    size = QUICK_SIZE if quick else SIZE
    yield from stages.measure_stages(size, rounds)
    if has_bf16(cases.DEVICE):
        yield _lower_precision(size, rounds)
    yield _memory(size)
    if not quick:
        yield _memory_of_large()
    yield _multiply_adds(size)


def _name(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _lower_precision(size: tuple[int, int], rounds: int) -> Row:
    """Compare bf16 with transformers in fp32."""
    return compare(
        f"image {_name(size)}, the same in bf16 autocast",
        cases.ours(*size, PRECISION="bf16"),
        cases.transformers(*size),
        rounds,
        peer_name=f"{PEER}, fp32",
        min_ratio=4.0,
    )


def _memory(size: tuple[int, int]) -> Row:
    height, width = size
    return compare_peaks(
        f"image {_name(size)}",
        lambda: peak_of("ours", height=height, width=width),
        lambda: peak_of("transformers", height=height, width=width),
        1,  # other than times, peaks hardly vary
        peer_name=PEER,
        max_ratio=0.5,
    )


def _memory_of_large() -> Row:
    return {
        "what": "image 2048x4096, 200 queries, panoptic + instance, peak memory over the weights",
        "unit": "GB",
        "ours": peak_of("ours", **LARGE),
        "max_value": 4.0,
    }


def _multiply_adds(size: tuple[int, int]) -> Row:
    """Count those of convolutions and matrix products, in 1e9; other operations are left out."""
    counts = []
    for case in (cases.ours, cases.transformers):
        work = case(*size, frozen=True)
        # The counter knows PyTorch's own operators.
        with use_linear("pytorch"), FlopCounterMode(display=False) as counter:
            work()
        counts.append(counter.get_total_flops() / 2e9)
    ours, peer = counts
    return {
        "what": f"image {_name(size)}, multiply-adds of convolutions and matrix products",
        "unit": "1e9",
        "ours": ours,
        "peer": peer,
        "peer_name": PEER,
        "ratio": ours / peer,
    }
