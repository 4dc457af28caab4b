"""Every backward that is written by hand against differences, in float64, over random shapes.

The Triton kernels need a GPU; tests/modeling/test_gpu.py compares them with the one for CPUs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional as F

from mask2former.modeling.criterion.losses import point_losses
from mask2former.ops import linear
from mask2former.ops.deform_attn import deformable_attention
from mask2former.ops.deform_attn.dispatch import use_implementation
from mask2former.ops.point_sampling import sample_maps, values_at

SEED = int(os.environ.get("TORTURE_SEED", "0"))
EXAMPLES = 100 if os.environ.get("TORTURE") == "1" else 12
SIDE, ANY = st.integers(1, 4), st.integers(0, 2**31)


def examples(test: Callable) -> Callable:
    """Try a test on shapes of the seed."""
    options = settings(
        max_examples=EXAMPLES,
        derandomize=False,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return seed(SEED)(options(test))


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def recorded(torture) -> Any:
    """A test that hypothesis has run EXAMPLES times leaves one row."""
    yield
    torture.record("Gradients", "hand-written backwards equal differences", EXAMPLES, [])


@pytest.mark.usefixtures("recorded")
@examples
@given(rows=SIDE, points=st.integers(1, 9), masked=st.booleans(), number=ANY)
def test_point_losses(rows: int, points: int, masked: bool, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    logits = (normal(generator, rows, points) * 3).requires_grad_()
    targets = torch.rand(rows, points, generator=generator, dtype=torch.float64)
    keep = (torch.rand(rows, points, generator=generator) > 0.4).double() if masked else None
    assert gradcheck(lambda x: point_losses(x, targets, keep), logits)


@pytest.mark.usefixtures("recorded")
@examples
@given(n=SIDE, height=SIDE, width=SIDE, points=st.integers(1, 6), number=ANY)
def test_values_at(n: int, height: int, width: int, points: int, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    maps = normal(generator, n, height, width).requires_grad_()
    where = torch.rand(n, points, 2, generator=generator, dtype=torch.float64) * 1.2 - 0.1
    values = sample_maps(maps.detach(), where)
    out = values_at(maps, where, values)
    weights = normal(generator, *out.shape)
    (got,) = torch.autograd.grad((out * weights).sum(), maps)
    (expected,) = torch.autograd.grad((sample_maps(maps, where) * weights).sum(), maps)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    assert gradcheck(lambda x: sample_maps(x, where), maps)


@pytest.mark.usefixtures("recorded")
@pytest.mark.parametrize("pixels", [False, True], ids=["linear", "pointwise"])
def test_linear(pixels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # oneDNN's product has no float64; the backward, which is ours, is made of products alone.
    monkeypatch.setattr(linear, "_product", F.linear)

    @examples
    @given(batch=SIDE, inputs=SIDE, outputs=SIDE, biased=st.booleans(), number=ANY)
    def check(batch: int, inputs: int, outputs: int, biased: bool, number: int) -> None:
        generator = torch.Generator().manual_seed(number)
        weight = normal(generator, outputs, inputs).requires_grad_()
        bias = normal(generator, outputs).requires_grad_() if biased else None
        if pixels:
            x = normal(generator, batch, inputs, 2, 3).to(memory_format=torch.channels_last)
            assert gradcheck(linear._Pointwise.apply, (x.requires_grad_(), weight, bias))
        else:
            x = normal(generator, batch, inputs).requires_grad_()
            assert gradcheck(linear._Linear.apply, (x, weight, bias))

    check()


@pytest.mark.usefixtures("recorded")
@examples
@given(
    sizes=st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=3),
    heads=st.integers(1, 2),
    points=st.integers(1, 3),
    queries=st.integers(1, 3),
    dim=st.integers(1, 3),
    number=ANY,
)
def test_deformable_attention(sizes, heads, points, queries, dim, number) -> None:
    generator = torch.Generator().manual_seed(number)
    pixels = sum(height * width for height, width in sizes)
    value = normal(generator, 1, pixels, heads, dim).requires_grad_()
    shape = (1, queries, heads, len(sizes), points)
    locations = torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    locations = away_from_pixels(locations, sizes).requires_grad_()
    weights = normal(generator, *shape).requires_grad_()

    def attend(v: Tensor, x: Tensor, w: Tensor) -> Tensor:
        with use_implementation("bag"):
            return deformable_attention(v, sizes, x, w)

    assert gradcheck(attend, (value, locations, weights))


def away_from_pixels(locations: Tensor, sizes: list[tuple[int, int]]) -> Tensor:
    """Move samples off the centres of pixels, where the bilinear surface has its creases."""
    extent = torch.tensor([(width, height) for height, width in sizes], dtype=torch.float64)
    extent = extent[None, None, None, :, None]
    place = locations * extent - 0.5
    fraction = (place - place.floor()).clamp(0.01, 0.99)
    return (place.floor() + fraction + 0.5) / extent
