"""What a model costs: parameters, multiply-adds and activations, by module.

Operations are counted while they run, so that nothing has to be traced and models that decide by
their data are counted as they are. Counted are convolutions, matrix products, attention and the
weighted sums of deformable attention; pointwise operations are not, as is usual.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..ops.linear import use_linear

# Module names by their cost; "" is the whole model.
Costs = dict[str, int]

_aten, _ops = torch.ops.aten, torch.ops.mask2former


def count_parameters(model: nn.Module) -> Costs:
    """Count the numbers in the parameters, frozen ones included, of every module."""
    return {
        name: sum(p.numel() for p in module.parameters()) for name, module in model.named_modules()
    }


def count_costs(model: nn.Module, run: Callable[[], Any]) -> tuple[Costs, Costs]:
    """Count what a model computes.

    Args:
        model: whose modules are counted separately.
        run: calls the model; gradients are not needed.

    Returns:
        multiply-adds, and numbers in the outputs of the operations counted (activations), each by
        the names of modules that have any. Functions that a module calls count as its own.
    """
    mode = _Counter(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        model.requires_grad_(False)  # the mode would follow parameters into the backward pass
        # The mode knows PyTorch's own operators.
        with torch.no_grad(), use_linear("pytorch"), mode:
            run()
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    # FlopCounterMode counts a multiply-add as two operations.
    macs = {name: sum(counts.values()) // 2 for name, counts in mode.get_flop_counts().items()}
    return _by_module(model, macs), _by_module(model, mode.activations)


def costs_table(costs: Mapping[str, int], depth: int = 2, unit: float = 1e6) -> str:
    """List costs by module, in the order of the model.

    Args:
        depth: levels of modules below the model; further ones are left out.
        unit: what the numbers are divided by.
    """
    levels = {name: name.count(".") + 1 if name else 0 for name in costs}
    rows = [
        ("  " * levels[name] + (name.rpartition(".")[2] or "model"), cost)
        for name, cost in costs.items()
        if levels[name] <= depth
    ]
    width = max((len(label) for label, _ in rows), default=0)
    return "\n".join(f"{label:<{width}} {cost / unit:12,.3f}" for label, cost in rows)


class _Counter(FlopCounterMode):
    """Also counts activations, and what FlopCounterMode does not know."""

    def __init__(self, model: nn.Module) -> None:
        formulas = {
            **{
                getattr(_ops, name): _deformable_attention
                for name in dir(_ops)
                if name.startswith("deform_attn") and not name.endswith("backward")
            },
            _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
            _aten._scaled_dot_product_attention_math: _attention,
        }
        super().__init__(display=False, custom_mapping=formulas)
        self.activations: dict[str, int] = defaultdict(int)

    def _count_flops(self, func_packet: Any, out: Any, args: Any, kwargs: Any) -> Any:
        if func_packet in self.flop_registry:
            first = out[0] if isinstance(out, tuple) else out
            for name in set(self.mod_tracker.parents):
                self.activations[name] += first.numel()
        return super()._count_flops(func_packet, out, args, kwargs)


def _deformable_attention(
    value: Any, sizes: Any, locations: Any, weights: Any, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    """Return the operations of weighted sums of samples, each of four pixels of C / M channels."""
    return 2 * 4 * math.prod(weights) * value[-1]


def _attention(
    query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **_: Any
) -> int:
    """Return the operations of query times key times value; shapes (B, M, length, C)."""
    batch = query[0] * query[1] * query[2] * key[2]
    return 2 * batch * (query[3] + value[3])


def _by_module(model: nn.Module, counts: Mapping[str, Any]) -> Costs:
    """Put the names that the mode has, which begin with the model's class, into ours."""
    top = type(model).__name__
    named = {"Global": ""}
    for name, _ in model.named_modules():
        named[f"{top}.{name}" if name else top] = name
    found = {named[name]: int(count) for name, count in counts.items() if name in named}
    order = [name for name, _ in model.named_modules() if found.get(name)]
    return {name: found[name] for name in order}
