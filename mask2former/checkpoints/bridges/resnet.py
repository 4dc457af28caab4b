"""ResNets of torchvision and timm (which use the same names), and detectron2's.

detectron2's compute the same with ``STRIDE_IN_1X1: False``, as the published configs have.
"""

from collections.abc import Mapping

import torch

from ..resnet_names import RESNET_NAMES

# Blocks of the stages of detectron2's ResNets, by MODEL.RESNETS.DEPTH.
STAGE_BLOCKS = {
    18: [2, 2, 2, 2],
    34: [3, 4, 6, 3],
    50: [3, 4, 6, 3],
    101: [3, 4, 23, 3],
    152: [3, 8, 36, 3],
}


def from_torchvision(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Translate a ResNet's weights to the names of detectron2's, without a leading "backbone.".

    Args:
        weights: of a plain ResNet, ResNeXt or wide ResNet of torchvision or timm.

    Raises:
        ValueError: it is another network, or a variant that detectron2's ResNet cannot express,
            as those with a deep stem or average pooling in the shortcut.
    """
    if not any(name.startswith("layer1.0.") for name in weights):
        raise ValueError(
            "Expected a plain ResNet of torchvision or timm, with conv1, bn1 and layer1 to "
            f"layer4; got {', '.join(list(weights)[:5])}, ..."
        )
    ours, unknown = RESNET_NAMES.to_ours(weights)
    if unknown:
        raise ValueError(
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
        ValueError: detectron2 has no ResNet with as many blocks.
    """
    blocks = [
        len({n.split(".")[1] for n in weights if n.startswith(f"layer{stage}.")})
        for stage in (1, 2, 3, 4)
    ]
    basic = "layer1.0.conv3.weight" not in weights
    depths = [d for d, b in STAGE_BLOCKS.items() if b == blocks and (d < 50) == basic]
    if not depths:
        raise ValueError(f"detectron2 has no ResNet with stages of {blocks} blocks.")
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
