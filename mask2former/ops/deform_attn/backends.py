"""What deformable attention can use besides PyTorch itself: Triton, and torch-ms-deform-attn.

Both are optional and imported when they are first used; `dispatch` decides whether they are.
"""

import logging
import time
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from statistics import median

import torch
from torch import Tensor

from .custom_op import Forward, Sizes, deformable_op

_log = logging.getLogger(__name__)

# The capability from which on Triton generates code: Volta.
_LEAST_CAPABILITY = (7, 0)
# The levels of an image of 800x1216 pixels, at which implementations are compared.
_TIMED_SIZES = ((25, 38), (50, 76), (100, 152))
# Calls of one timing: of a single one, launching would take longer than computing.
_CALLS = 10


@lru_cache(maxsize=16)
def has_triton(device: torch.device) -> bool:
    """Whether Triton is installed and knows this CUDA device."""
    if find_spec("triton") is None:
        return False
    return torch.version.hip is not None or (
        torch.cuda.get_device_capability(device) >= _LEAST_CAPABILITY
    )


@lru_cache(maxsize=1)
def has_extension() -> bool:
    """Whether torch-ms-deform-attn is installed and loads."""
    if find_spec("torch_ms_deform_attn") is None:
        return False
    try:
        import torch_ms_deform_attn  # noqa: F401
    except (ImportError, OSError) as error:  # built for another PyTorch
        _log.warning("torch-ms-deform-attn is installed but does not load: %s", error)
        return False
    return True


@lru_cache(maxsize=4)
def triton_operator(device_type: str) -> Forward:
    """The operator made of Triton's kernels.

    Raises:
        ValueError: they cannot run on this kind of device.
        ImportError: Triton is not installed.
    """
    if find_spec("triton") is None:
        raise ImportError(
            "deformable attention: the implementation 'triton' needs the package triton, which "
            "comes with PyTorch's CUDA builds for Linux; install it, or choose 'auto'."
        )
    from . import triton_kernels

    if device_type != "cuda" and not triton_kernels.INTERPRETED:
        raise ValueError(
            f"deformable attention: the implementation 'triton' needs CUDA tensors, got tensors "
            f"on {device_type}; choose 'auto', or set TRITON_INTERPRET=1 to debug the kernels."
        )
    return _triton_op()


@lru_cache(maxsize=1)
def _triton_op() -> Forward:
    from . import triton_kernels as kernels

    return deformable_op("deform_attn_triton", kernels.forward, kernels.backward)


def extension_operator(device_type: str) -> Forward:
    """The operator of torch-ms-deform-attn, on any device that its build knows.

    Raises:
        ImportError: it is not installed or does not load.
    """
    if not has_extension():
        raise ImportError(
            "deformable attention: the implementation 'extension' needs the package "
            "torch-ms-deform-attn, which is not installed or does not load; install it with "
            "`pip install --no-build-isolation torch-ms-deform-attn`, or choose 'auto'."
        )
    return _run_extension


def _run_extension(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    from torch_ms_deform_attn import ms_deform_attn

    shapes, starts = _level_tensors(sizes, value.device)
    # It takes one type for all; locations need float32 at least.
    dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
    inputs = (value.to(dtype), shapes, starts, locations.to(dtype), weights.to(dtype))
    return ms_deform_attn(*(x.contiguous() for x in inputs)).to(value.dtype)


@lru_cache(maxsize=64)
def _level_tensors(sizes: Sizes, device: torch.device) -> tuple[Tensor, Tensor]:
    """(L, 2) heights and widths, and (L,) first tokens, int64, sent without waiting."""
    starts = [0]
    for h, w in sizes[:-1]:
        starts.append(starts[-1] + h * w)
    shapes = torch.tensor(sizes, dtype=torch.int64).to(device, non_blocking=True)
    return shapes, torch.tensor(starts, dtype=torch.int64).to(device, non_blocking=True)


def fastest(
    candidates: Mapping[str, Forward], device: torch.device, dtype: torch.dtype, rounds: int = 5
) -> str:
    """Which of several operators is the fastest, forward and backward, at a size of real images.

    Queries look at places near their own, as those of a model do.

    Args:
        candidates: operators by name, at least one.
        device: where to time them.
        dtype: of the values.
        rounds: timings of each, taken in turn; the medians are compared.
    """
    sizes = _TIMED_SIZES
    tokens = sum(h * w for h, w in sizes)
    value = torch.randn(1, tokens, 8, 32, device=device, dtype=dtype)
    corners = torch.cat([torch.cartesian_prod(*(torch.arange(n) / n for n in s)) for s in sizes])
    locations = corners.flip(1).to(device).view(1, tokens, 1, 1, 1, 2)
    locations = locations + 0.05 * torch.randn(1, tokens, 8, len(sizes), 4, 2, device=device)
    weights = torch.rand(1, tokens, 8, len(sizes), 4, device=device)
    inputs = [x.requires_grad_() for x in (value, locations, weights)]
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, operator in candidates.items():
            seconds = _seconds(operator, inputs, sizes)
            if turn:  # the first compiles
                times[name].append(seconds)
    medians = {name: median(seconds) for name, seconds in times.items()}
    _log.info("deformable attention, forward and backward in seconds: %s", medians)
    return min(medians, key=lambda name: medians[name])


def _seconds(operator: Forward, inputs: list[Tensor], sizes: Sizes) -> float:
    value, locations, weights = inputs
    wait = torch.cuda.synchronize if value.is_cuda else (lambda: None)
    wait()
    begin = time.perf_counter()
    with torch.enable_grad():
        for _ in range(_CALLS if value.is_cuda else 1):
            out = operator(value, sizes, locations, weights)
            torch.autograd.grad(out, inputs, torch.ones_like(out))
    wait()
    return time.perf_counter() - begin
