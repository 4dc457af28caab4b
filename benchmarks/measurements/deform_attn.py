"""Deformable attention alone: each implementation against `grid_sample`, on CPU and CUDA.

`python -m benchmarks.measurements.deform_attn` prints the table. All implementations take turns in
one process, so that a slow moment of the machine meets them all.
"""

import argparse
import functools
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from mask2former.layers.deformable import pixel_centres
from mask2former.ops.deform_attn import deformable_attention, use_implementation

from ..memory import peak_while
from ..models import ROOT
from ..report import table
from ..timing import Row, Work, time_in_turn

Sizes = tuple[tuple[int, int], ...]
SIZES: Sizes = ((25, 38), (50, 76), (100, 152))  # strides 32, 16 and 8 of an image of 800x1216
QUICK_SIZES: Sizes = ((8, 8), (16, 16), (32, 32))
HEADS, DIM, POINTS = 8, 32, 4
BASELINE = "grid_sample"
# Times as fast as grid_sample that we aim at: (device, backward too, compiled).
AIMS = {("cpu", False, False): 5.0, ("cpu", False, True): 6.0, ("cpu", True, False): 3.0}


def make_inputs(sizes: Sizes, where: str, device: str, dtype: torch.dtype) -> list[Tensor]:
    """Return values (1, S, M, D), locations and weights of a query a pixel.

    Args:
        where: "near", samples a few pixels from their query as in a model, or "anywhere", samples
            all over the image, which no cache helps with.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = sum(h * w for h, w in sizes)
    shape = (1, tokens, HEADS, len(sizes), POINTS)
    value = torch.randn(1, tokens, HEADS, DIM, generator=generator)
    locations = torch.rand(*shape, 2, generator=generator)
    if where == "near":
        pixels = torch.tensor([(w, h) for h, w in sizes])[:, None]
        centres = pixel_centres(sizes, torch.device("cpu")).view(1, tokens, 1, 1, 1, 2)
        locations = centres + 3 * torch.randn(*shape, 2, generator=generator) / pixels
    weights = torch.rand(*shape, generator=generator)
    return [value.to(device, dtype), locations.to(device), weights.to(device)]


def implementations(device: str) -> list[str]:
    """Return what can run on this device, the baseline left out."""
    names = ["bag"]
    if device == "cuda" and find_spec("triton"):
        names.append("triton")
    return names


def work(name: str, sizes: Sizes, inputs: list[Tensor], backward: bool, compiled: bool) -> Work:
    """Return one forward, or forward and backward, of the named implementation."""

    def run(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return deformable_attention(value, sizes, locations, weights)

    operator: Callable[..., Tensor] = torch.compile(run, fullgraph=True) if compiled else run
    inputs = [x.detach().requires_grad_(backward) for x in inputs]

    def call() -> None:
        with use_implementation(name), torch.set_grad_enabled(backward):
            out = operator(*inputs)
            if backward:
                torch.autograd.grad(out, inputs, torch.ones_like(out))

    return call


def time_all(
    device: str,
    dtype: torch.dtype,
    sizes: Sizes,
    where: str,
    backward: bool,
    rounds: int,
    compiled: Sequence[bool] = (False, True),
) -> list[Row]:
    """Return a row for each implementation, eager and compiled, beside eager `grid_sample`."""
    inputs = make_inputs(sizes, where, device, dtype)
    kinds = [(name, is_compiled) for name in implementations(device) for is_compiled in compiled]
    kinds = [(BASELINE, False), *kinds]
    works = [work(name, sizes, inputs, backward, compiled) for name, compiled in kinds]
    times = dict(zip(kinds, time_in_turn(works, rounds)))
    what = f"deformable attention, samples {where}, {'forward+backward' if backward else 'forward'}"
    what = f"{what}, {device} {str(dtype).removeprefix('torch.')}"
    rows = []
    for name, compiled in kinds[1:]:
        title = f"{what}, {name}{' compiled' if compiled else ''}"
        aim = AIMS.get((device, backward, compiled)) if name == "bag" else None
        rows.append(_row(title, times[name, compiled], times[BASELINE, False], BASELINE, aim))
    return rows


def _row(
    what: str, ours: list[float], theirs: list[float], peer_name: str, min_ratio: float | None
) -> Row:
    """Return a row of the table, from times that were taken in turn."""
    return {
        "what": what,
        "unit": "s",
        "ours": statistics.median(ours),
        "peer": statistics.median(theirs),
        "peer_name": peer_name,
        "ratio": statistics.median(b / a for a, b in zip(ours, theirs)),
        "rounds": len(ours),
        "min_ratio": min_ratio,
    }


def compiled_grid_sample(sizes: Sizes, rounds: int) -> list[Row]:
    """Compare compiled with compiled on the CPU, forward."""
    inputs = make_inputs(sizes, "near", "cpu", torch.float32)
    works = [work(name, sizes, inputs, False, True) for name in ("bag", BASELINE)]
    what = "deformable attention, samples near, forward, cpu float32, both compiled"
    return [_row(what, *time_in_turn(works, rounds), f"{BASELINE} compiled", 6.0)]


def peak(name: str, device: str, dtype: str, quick: bool) -> int:
    """Return bytes that a forward and backward takes at its peak, measured in this process."""
    sizes = QUICK_SIZES if quick else SIZES
    inputs = make_inputs(sizes, "near", device, getattr(torch, dtype))
    # A small call first: what libraries keep, and kernels made on first use, are not counted.
    small = ((2, 2),) * len(sizes)
    work(name, small, make_inputs(small, "near", device, getattr(torch, dtype)), True, False)()
    return peak_while(work(name, sizes, inputs, True, False))


def peaks(device: str, dtype: torch.dtype, quick: bool) -> list[Row]:
    """Return peak memory of each implementation beside that of `grid_sample`, in fresh
    processes."""
    kind = str(dtype).removeprefix("torch.")

    @functools.cache
    def gigabytes(name: str) -> float:
        command = [sys.executable, "-W", "ignore", "-m", __spec__.name, "--peak", name]
        command += [device, kind] + ["--quick"] * quick
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return int(done.stdout.split()[-1]) / 1e9

    return [
        {
            "what": f"deformable attention, forward+backward, peak memory, {device} {kind}, {name}",
            "unit": "GB",
            "ours": gigabytes(name),
            "peer": gigabytes(BASELINE),
            "peer_name": BASELINE,
            "ratio": gigabytes(name) / gigabytes(BASELINE),
            "max_ratio": 1.0,
        }
        for name in implementations(device)
    ]


def measure(rounds: int, quick: bool = False) -> Iterator[Row]:
    """Yield all rows: CPU in float32, GPU in float32 and bfloat16; `quick` takes small maps, and
    compiles nothing."""
    sizes = QUICK_SIZES if quick else SIZES
    settings = [("cpu", torch.float32)]
    if torch.cuda.is_available():
        settings += [("cuda", torch.float32), ("cuda", torch.bfloat16)]
    compiled = (False,) if quick else (False, True)
    for device, dtype in settings:
        for where in ("near", "anywhere"):
            for backward in (False, True):
                yield from time_all(device, dtype, sizes, where, backward, rounds, compiled)
        yield from peaks(device, dtype, quick)
    if not quick:
        yield from compiled_grid_sample(sizes, rounds)


def main() -> None:
    """Print the table, or one peak."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small maps")
    parser.add_argument("--peak", nargs=3, metavar=("NAME", "DEVICE", "DTYPE"), help="bytes alone")
    args = parser.parse_args()
    if args.peak:
        print(peak(*args.peak, args.quick))
    else:
        print(table(list(measure(args.rounds, args.quick))))


if __name__ == "__main__":
    main()
