"""Find the first tensor of a step that is not finite."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class FirstNotFinite:
    """Watch the modules of a model while they run.

    Attributes:
        found: what the first tensor is that is not finite, in words; None as long as there is none.
        calls: of modules that had ended by then.
    """

    def __init__(self, model: nn.Module):
        self._names = {module: name or "the model" for name, module in model.named_modules()}
        self._last = "the beginning"
        self.found: str | None = None
        self.calls = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch until the block ends."""
        hooks = []
        for module in self._names:
            hooks.append(module.register_forward_pre_hook(self._before, with_kwargs=True))
            hooks.append(module.register_forward_hook(self._after, with_kwargs=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _before(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        if self.found is None:
            # Masks are minus infinity where attention must not look.
            inputs = [*args, *(v for k, v in kwargs.items() if "mask" not in k)]
            if bad := first_not_finite(inputs):
                where = self._described(module)
                self.found = (
                    f"input{bad[0]} of {where}, made after {self._last}: {describe(bad[1])}"
                )

    def _after(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        if self.found is not None:
            return
        self.calls += 1
        self._last = self._described(module)
        if bad := first_not_finite(output):
            inputs = "; ".join(describe(tensor) for _, tensor in tensors_in([args, kwargs]))
            self.found = (
                f"output{bad[0]} of {self._last}: {describe(bad[1])}\n"
                f"its inputs: {inputs or 'no numbers'}"
            )

    def _described(self, module: nn.Module) -> str:
        return f"{self._names[module]} ({type(module).__name__})"


def first_not_finite(value: Any) -> tuple[str, Tensor] | None:
    """Return place and tensor of the first that is not finite in nested values, None if all are."""
    bad = ((place, x) for place, x in tensors_in(value) if not torch.isfinite(x).all())
    return next(bad, None)


def tensors_in(value: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of floating-point numbers in nested values, with their places."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield place, value.detach()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in(item, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from tensors_in(item, f"{place}[{i}]")
    elif hasattr(value, "get_fields"):  # detectron2's Instances
        yield from tensors_in(value.get_fields(), place)


def describe(tensor: Tensor) -> str:
    """Return shape, type, numbers that are not finite, and range of a tensor of numbers."""
    finite = tensor[torch.isfinite(tensor)].double()
    spread = f"{finite.min():.4g} to {finite.max():.4g}" if finite.numel() else "no finite number"
    nan, infinite = int(tensor.isnan().sum()), int(tensor.isinf().sum())
    bad = f"{nan} NaN and {infinite} infinite of {tensor.numel()}, else " if nan + infinite else ""
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"{dtype} {tuple(tensor.shape)}, {bad}{spread}"
