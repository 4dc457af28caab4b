"""The official Swin checkpoints, whose blocks have the names that our backbone uses."""

import re
from collections.abc import Mapping

import torch

# The classifier and the norm before it, and masks that follow from the image's size.
_UNUSED = re.compile(r"^(head|norm)\.|\.attn_mask$")


def from_official(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the weights that the backbone uses, without a leading "backbone.".

    Args:
        weights: of a Swin classification model of the official code, version 1.

    Raises:
        ValueError: they belong to something else.
    """
    if "layers.0.blocks.0.attn.relative_position_bias_table" not in weights:
        raise ValueError(
            "Expected an official Swin checkpoint, with layers.0.blocks.0.attn."
            f"relative_position_bias_table; got {', '.join(list(weights)[:5])}, ..."
        )
    return {name: tensor for name, tensor in weights.items() if not _UNUSED.search(name)}
