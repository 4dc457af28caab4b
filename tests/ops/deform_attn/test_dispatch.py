"""Which implementation of deformable attention runs: the choice, its settings and their errors."""

import logging
from types import SimpleNamespace

import pytest
import torch

from mask2former.ops.deform_attn import deformable_attention, dispatch, use_implementation

SIZES = ((3, 4), (2, 1))


@pytest.fixture(autouse=True)
def forget():
    caches = dispatch._has_triton, dispatch._triton_operator, dispatch._log_once
    for function in caches:
        function.cache_clear()
    yield
    for function in caches:
        function.cache_clear()


def set_triton(monkeypatch, *, installed=True, capability=(9, 0), hip=None):
    monkeypatch.setattr(dispatch, "find_spec", lambda name: name if installed else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.version, "hip", hip)


def make_inputs():
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 14, 2, 4, generator=generator)
    locations = torch.rand(2, 5, 2, 2, 3, 2, generator=generator)
    return value, SIZES, locations, torch.rand(2, 5, 2, 2, 3, generator=generator)


def choice(device, dtype=torch.float32):
    value = SimpleNamespace(device=torch.device(device), dtype=dtype)  # such a device may be absent
    return dispatch._automatic_choice(value)


def test_names_that_are_not_known():
    expected = "expected one of auto, bag, triton, grid_sample, gather, got 'extension'"
    with pytest.raises(ValueError, match=expected), use_implementation("extension"):
        pass


def test_setting_ends_with_its_context():
    before = dispatch._requested
    with use_implementation("grid_sample"):
        assert dispatch._requested == "grid_sample"
        with pytest.raises(KeyError), use_implementation("bag"):
            raise KeyError
        assert dispatch._requested == "grid_sample"
    assert dispatch._requested == before


def test_triton_that_is_not_installed_is_named(monkeypatch):
    set_triton(monkeypatch, installed=False)
    expected = "implementation 'triton' needs the package triton"
    with pytest.raises(ImportError, match=expected), use_implementation("triton"):
        deformable_attention(*make_inputs())


def test_triton_needs_a_gpu():
    pytest.importorskip("triton", reason="needs Triton")
    expected = "needs CUDA tensors, got tensors on cpu"
    with pytest.raises(ValueError, match=expected), use_implementation("triton"):
        deformable_attention(*make_inputs())


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cpu", torch.float32, "bag"),
        ("cuda:0", torch.float32, "triton"),
        ("cuda:1", torch.bfloat16, "triton"),
        ("cuda:0", torch.float64, "bag"),  # the kernels add up in float32
        ("mps", torch.float32, "grid_sample"),
    ],
)
def test_choice_by_device_and_type(monkeypatch, device, dtype, expected):
    set_triton(monkeypatch)
    assert choice(device, dtype) == expected


@pytest.mark.parametrize(
    ("triton", "expected"),
    [
        ({"installed": False}, "bag"),
        ({"capability": (6, 1)}, "bag"),
        ({"capability": (7, 0)}, "triton"),
        ({"capability": (6, 1), "hip": "6.2"}, "triton"),  # AMD's numbers are others
    ],
)
def test_choice_on_cuda_by_what_is_available(monkeypatch, triton, expected):
    set_triton(monkeypatch, **triton)
    assert choice("cuda:0") == expected


def test_choice_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, logger="mask2former"):
        for _ in range(2):
            deformable_attention(*make_inputs())
    assert [r.getMessage() for r in caplog.records] == [
        "deformable attention on cpu is computed by: bag"
    ]
