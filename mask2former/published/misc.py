"""Batches of tensors of several sizes, and small functions that published code uses."""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def is_dist_avail_and_initialized() -> bool:
    """Return whether this process is one of a group."""
    return distributed.is_available() and distributed.is_initialized()


class NestedTensor:
    """Maps of several sizes, padded to one.

    Args:
        tensors: (B, C, H, W).
        mask: (B, H, W), bool, True at padding; None if there is none.
    """

    def __init__(self, tensors: Tensor, mask: Tensor | None):
        self.tensors = tensors
        self.mask = mask

    def to(self, device: torch.device | str) -> "NestedTensor":
        """Return the same on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        return NestedTensor(self.tensors.to(device), mask)

    def decompose(self) -> tuple[Tensor, Tensor | None]:
        """Return the maps and the mask."""
        return self.tensors, self.mask

    def __repr__(self) -> str:
        return str(self.tensors)


def nested_tensor_from_tensor_list(tensor_list: Sequence[Tensor]) -> NestedTensor:
    """Pad maps (C, H, W) with zeros at the right and at the bottom to the largest size.

    Raises:
        ValueError: no maps, or some with other axes.
    """
    if not tensor_list or any(t.dim() != 3 for t in tensor_list):
        shapes = [tuple(t.shape) for t in tensor_list]
        raise ValueError(f"nested_tensor_from_tensor_list: expected maps (C, H, W), got {shapes}.")
    channels, height, width = (max(t.shape[i] for t in tensor_list) for i in range(3))
    batch = tensor_list[0].new_zeros(len(tensor_list), channels, height, width)
    mask = torch.ones(len(tensor_list), height, width, dtype=torch.bool, device=batch.device)
    for padded, padding, tensor in zip(batch, mask, tensor_list):
        c, h, w = tensor.shape
        padded[:c, :h, :w] = tensor
        padding[:h, :w] = False
    return NestedTensor(batch, mask)
