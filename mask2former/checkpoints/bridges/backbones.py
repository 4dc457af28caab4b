"""Backbones of other libraries: ResNets of torchvision and timm, and the official Swin.

torchvision and timm use the same names. detectron2's ResNets compute the same with
``STRIDE_IN_1X1: False``, as the published configs have. The blocks of the official Swin have the
names that our backbone uses.
"""

import re
from collections.abc import Mapping

import torch

from ...errors import UserError
from ..renames import RESNET_NAMES

# Blocks of the stages of detectron2's ResNets, by MODEL.RESNETS.DEPTH.
STAGE_BLOCKS = {
    18: [2, 2, 2, 2],
    34: [3, 4, 6, 3],
    50: [3, 4, 6, 3],
    101: [3, 4, 23, 3],
    152: [3, 8, 36, 3],
}
# The classifier and the norm before it, and masks that follow from the image's size.
_UNUSED = re.compile(r"^(head|norm)\.|\.attn_mask$")
_TABLE = "layers.{}.blocks.0.attn.relative_position_bias_table"


def from_torchvision(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Translate a ResNet's weights to the names of detectron2's, without a leading "backbone.".

    Args:
        weights: of a plain ResNet, ResNeXt or wide ResNet of torchvision or timm.

    Raises:
        UserError: it is another network, or a variant that detectron2's ResNet cannot express,
            as those with a deep stem or average pooling in the shortcut.
    """
    if not any(name.startswith("layer1.0.") for name in weights):
        raise UserError(
            "Expected a plain ResNet of torchvision or timm, with conv1, bn1 and layer1 to "
            f"layer4; got {', '.join(list(weights)[:5])}, ..."
        )
    ours, unknown = RESNET_NAMES.to_ours(weights)
    if unknown:
        raise UserError(
            "detectron2's ResNet has no counterpart for "
            f"{', '.join(unknown[:5])}{' and more' if len(unknown) > 5 else ''}. Only the plain "
            "ResNets can be converted, not those with a deep stem, average pooling in the "
            "shortcut, or channel attention."
        )
    return ours


def detectron2_options(weights: Mapping[str, torch.Tensor]) -> dict[str, int | bool]:
    """Return the keys under MODEL.RESNETS that a ResNet's weights need.

    Args:
        weights: as for `from_torchvision`.

    Raises:
        UserError: detectron2 has no ResNet with as many blocks.
    """
    blocks = [
        len({n.split(".")[1] for n in weights if n.startswith(f"layer{stage}.")})
        for stage in (1, 2, 3, 4)
    ]
    basic = "layer1.0.conv3.weight" not in weights
    depths = [d for d, b in STAGE_BLOCKS.items() if b == blocks and (d < 50) == basic]
    if not depths:
        raise UserError(f"detectron2 has no ResNet with stages of {blocks} blocks.")
    inner = weights["layer1.0.conv2.weight"]  # (width, width / groups, 3, 3)
    groups = inner.shape[0] // inner.shape[1]
    return {
        "DEPTH": depths[0],
        "NUM_GROUPS": groups,
        "WIDTH_PER_GROUP": inner.shape[0] // groups,
        "RES2_OUT_CHANNELS": weights[
            "layer1.0.bn2.weight" if basic else "layer1.0.bn3.weight"
        ].numel(),
        "STRIDE_IN_1X1": False,
    }


def from_official(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights that the backbone uses, without a leading "backbone.".

    Args:
        weights: of a Swin classification model of the official code, version 1.

    Raises:
        UserError: they belong to something else.
    """
    if _TABLE.format(0) not in weights:
        raise UserError(
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
