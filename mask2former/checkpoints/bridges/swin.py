"""The official Swin checkpoints, whose blocks have the names that our backbone uses."""

import re
from collections.abc import Mapping

import torch

# The classifier and the norm before it, and masks that follow from the image's size.
_UNUSED = re.compile(r"^(head|norm)\.|\.attn_mask$")
_TABLE = "layers.{}.blocks.0.attn.relative_position_bias_table"


def from_official(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights that the backbone uses, without a leading "backbone.".

    Args:
        weights: of a Swin classification model of the official code, version 1.

    Raises:
        ValueError: they belong to something else.
    """
    if _TABLE.format(0) not in weights:
        raise ValueError(
            f"Expected an official Swin checkpoint, with {_TABLE.format(0)}; got "
            f"{', '.join(list(weights)[:5])}, ..."
        )
    return {name: tensor for name, tensor in weights.items() if not _UNUSED.search(name)}


def swin_options(weights: Mapping[str, torch.Tensor]) -> dict[str, int | list[int]]:
    """Return the keys under MODEL.SWIN that an official checkpoint's weights need."""
    stages = [i for i in range(4) if _TABLE.format(i) in weights]
    tables = [weights[_TABLE.format(i)] for i in stages]  # ((2 * window - 1) ** 2, heads)
    return {
        "EMBED_DIM": weights["patch_embed.proj.weight"].shape[0],
        "PATCH_SIZE": weights["patch_embed.proj.weight"].shape[-1],
        "WINDOW_SIZE": (round(tables[0].shape[0] ** 0.5) + 1) // 2,
        "NUM_HEADS": [table.shape[1] for table in tables],
        "DEPTHS": [
            len({n.split(".")[3] for n in weights if n.startswith(f"layers.{i}.blocks.")})
            for i in stages
        ],
    }
