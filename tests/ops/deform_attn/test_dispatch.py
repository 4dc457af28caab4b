"""Which implementation of deformable attention runs: the choice, its settings and their errors."""

import sys
from types import ModuleType

import pytest
import torch

from mask2former.ops.deform_attn import (
    backends,
    deformable_attention,
    deformable_attention_grid_sample,
    dispatch,
    use_implementation,
)

SIZES = ((3, 4), (2, 1))
CALLS: list[tuple] = []


def ms_deform_attn(value, shapes, starts, locations, weights):
    """Stands in for the function of torch-ms-deform-attn; as strict about its arguments."""
    assert value.dtype == locations.dtype == weights.dtype
    assert shapes.dtype == starts.dtype == torch.int64
    CALLS.append((shapes.tolist(), starts.tolist()))
    return deformable_attention_grid_sample(
        value, [tuple(s) for s in shapes.tolist()], locations, weights
    )


@pytest.fixture
def extension(monkeypatch):
    module = ModuleType("torch_ms_deform_attn")
    module.ms_deform_attn = ms_deform_attn
    monkeypatch.setitem(sys.modules, "torch_ms_deform_attn", module)
    monkeypatch.setattr(backends, "find_spec", lambda name: name)
    forget()
    yield
    forget()


@pytest.fixture
def bare(monkeypatch):
    """Neither Triton nor the extension is installed."""
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    forget()
    yield
    forget()


def forget():
    for function in (
        backends.has_extension,
        backends.has_triton,
        dispatch._measured_choice,
    ):
        function.cache_clear()
    CALLS.clear()


def make_inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 14, 2, 4, generator=generator).to(dtype)
    locations = torch.rand(2, 5, 2, 2, 3, 2, generator=generator)
    return value, SIZES, locations, torch.rand(2, 5, 2, 2, 3, generator=generator)


def test_names_that_are_not_known():
    expected = "expected one of auto, bag, .*, got 'fast'"
    with pytest.raises(ValueError, match=expected), use_implementation("fast"):
        pass


def test_setting_ends_with_its_context():
    before = dispatch._requested
    with use_implementation("grid_sample"):
        assert dispatch._requested == "grid_sample"
        with pytest.raises(KeyError), use_implementation("bag"):
            raise KeyError
        assert dispatch._requested == "grid_sample"
    assert dispatch._requested == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extension_gets_what_it_needs(extension, dtype):
    inputs = make_inputs(dtype)
    with use_implementation("extension"):
        out = deformable_attention(*inputs)
    assert out.dtype == dtype
    assert CALLS == [([[3, 4], [2, 1]], [0, 12])]
    expected = deformable_attention_grid_sample(inputs[0].float(), *inputs[1:])
    torch.testing.assert_close(out, expected.to(dtype))


@pytest.mark.parametrize("name", ["triton", "extension"])
def test_what_is_not_installed_is_named(bare, name):
    expected = f"implementation '{name}' needs the package"
    with pytest.raises(ImportError, match=expected), use_implementation(name):
        deformable_attention(*make_inputs())


def test_extension_built_for_another_pytorch(extension, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "torch_ms_deform_attn", None)  # its import fails
    assert not backends.has_extension()
    assert "installed but does not load" in caplog.text


def test_triton_needs_a_gpu():
    pytest.importorskip("triton", reason="needs Triton")
    expected = "needs CUDA tensors, got tensors on cpu"
    with pytest.raises(ValueError, match=expected), use_implementation("triton"):
        deformable_attention(*make_inputs())


def choice(deterministic=False):
    dispatch._measured_choice.cache_clear()
    return dispatch._measured_choice(0, torch.float32, deterministic)


def test_choice_without_triton(bare):
    assert choice() == "bag"


@pytest.mark.parametrize("triton", [True, False])
def test_choice_with_extension(extension, monkeypatch, triton):
    monkeypatch.setattr(backends, "has_triton", FakeQuestion(triton))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(dispatch, "_operator", lambda name, device: name)
    monkeypatch.setattr(backends, "fastest", lambda candidates, *_: max(candidates))
    assert choice() == ("triton" if triton else "extension")
    monkeypatch.setattr(backends, "fastest", lambda candidates, *_: min(candidates))
    assert choice() == "extension"
    # The extension adds up in no fixed order, and a capture cannot be interrupted to measure.
    assert choice(deterministic=True) == ("triton" if triton else "bag")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert choice() == ("triton" if triton else "extension")


class FakeQuestion:
    """A function with a given answer, and a cache to clear."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, device):
        return self.answer

    def cache_clear(self):
        pass


def test_fastest_is_the_one_that_takes_least(monkeypatch, caplog):
    monkeypatch.setattr(backends, "_TIMED_SIZES", SIZES)

    now = [0.0]
    monkeypatch.setattr(backends.time, "perf_counter", lambda: now[0])

    def taking(*seconds):
        """An operator that takes these times, call by call."""
        left = list(seconds)

        def operator(value, sizes, locations, weights):
            now[0] += left.pop(0)
            return value.sum() + locations.sum() + weights.sum()

        return operator

    candidates = {
        "slow": taking(1, 6),
        "quick": taking(15, 1),  # the first call, which compiles, does not count
        "middle": taking(1, 4),
    }
    caplog.set_level("INFO", logger="mask2former")
    got = backends.fastest(candidates, torch.device("cpu"), torch.float32, rounds=1)
    assert got == "quick"
    assert "forward and backward in seconds" in caplog.text
