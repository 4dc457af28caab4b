"""Change what a model returns, for a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel


@contextmanager
def switched(model: nn.Module, **switches: Any) -> Iterator[None]:
    """Set switches of a model, such as `panoptic_on` and `semantic_output` of `MergingModel`.

    Those that it does not have are left out; a distributed model's are set in the model inside.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module
    before = {name: getattr(model, name) for name in switches if hasattr(model, name)}
    try:
        for name in before:
            setattr(model, name, switches[name])
        yield
    finally:
        for name, value in before.items():
            setattr(model, name, value)
