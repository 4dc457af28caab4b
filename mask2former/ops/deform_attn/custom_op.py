"""Operators of our own with a backward of their own, opaque to torch.compile.

A plain `autograd.Function` with loops over chunks would be unrolled into the compiled graph; as a
custom operator it stays one node, with no graph break, for any shape.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Sizes = tuple[tuple[int, int], ...]
Forward = Callable[[Tensor, Sizes, Tensor, Tensor], Tensor]
Backward = Callable[[Tensor, Tensor, Sizes, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def deformable_op(name: str, forward: Forward, backward: Backward) -> Forward:
    """Make a differentiable operator mask2former::NAME of two functions.

    Args:
        name: of the operator; the backward is called NAME_backward.
        forward: value, sizes, locations, weights -> output, as `deformable_attention`.
        backward: gradient of the output, then the same four -> gradients of value, locations and
            weights, contiguous and of the shapes and types of these.

    Returns:
        The operator. Its second derivative raises NotImplementedError.
    """

    backward_op = _backward_op(name, backward)

    @torch.library.custom_op(f"mask2former::{name}", mutates_args=())
    def op(value: Tensor, sizes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
        return forward(value, _pairs(sizes), locations, weights)

    @op.register_fake
    def _(value: Tensor, sizes: list[int], locations: Tensor, weights: Tensor) -> Tensor:
        batch, _, heads, dim = value.shape
        return value.new_empty(batch, locations.shape[1], heads * dim)

    def differentiate(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        value, locations, weights = ctx.saved_tensors
        d_value, d_loc, d_att = backward_op(grad, value, ctx.sizes, locations, weights)
        return d_value, None, d_loc, d_att

    def call(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
        return op(value, [n for size in sizes for n in size], locations, weights)

    op.register_autograd(differentiate, setup_context=_save)
    return call


def _backward_op(name: str, backward: Backward) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    @torch.library.custom_op(f"mask2former::{name}_backward", mutates_args=())
    def op(
        grad: Tensor, value: Tensor, sizes: list[int], locations: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return backward(grad, value, _pairs(sizes), locations, weights)

    @op.register_fake
    def _(
        grad: Tensor, value: Tensor, sizes: list[int], locations: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        empty = [x.new_empty(x.shape) for x in (value, locations, weights)]
        return empty[0], empty[1], empty[2]

    op.register_autograd(_refuse)
    return op


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    value, ctx.sizes, locations, weights = inputs
    ctx.save_for_backward(value, locations, weights)


def _refuse(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "deformable_attention has no second derivative in its fast implementations; choose "
        "'grid_sample' with mask2former.ops.deform_attn.use_implementation for it."
    )


def _pairs(flat: list[int]) -> Sizes:
    return tuple(zip(flat[::2], flat[1::2]))
