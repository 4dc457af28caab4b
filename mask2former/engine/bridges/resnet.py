"""ResNets of torchvision and timm (which use the same names), and detectron2's.

detectron2 needs ``STRIDE_IN_1X1: False`` to compute the same, as the published configs have.
"""

from collections.abc import Collection, Mapping

import torch

from .names import NameMap

_MAP = NameMap(
    [
        ("stem.conv1.weight", "conv1.weight"),
        ("stem.conv1.norm.{p}", "bn1.{p}"),
        ("stem.fc.{p}", "fc.{p}"),
        ("res{s+1}.{b}.conv{n}.weight", "layer{s}.{b}.conv{n}.weight"),
        ("res{s+1}.{b}.conv{n}.norm.{p}", "layer{s}.{b}.bn{n}.{p}"),
        ("res{s+1}.{b}.shortcut.weight", "layer{s}.{b}.downsample.0.weight"),
        ("res{s+1}.{b}.shortcut.norm.{p}", "layer{s}.{b}.downsample.1.{p}"),
    ]
)


def is_torchvision(names: Collection[str]) -> bool:
    """Tells whether ``names`` are those of a plain ResNet of torchvision or timm."""
    return {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= set(names)


def from_torchvision(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Translates a ResNet's weights to the names of detectron2's, without a leading "backbone.".

    Args:
        weights: of a plain ResNet, ResNeXt or wide ResNet of torchvision or timm.

    Raises:
        ValueError: it is another network, or a variant that detectron2's ResNet cannot express,
            as those with a deep stem or average pooling in the shortcut.
    """
    if not is_torchvision(weights):
        raise ValueError(
            "Expected a plain ResNet of torchvision or timm, with conv1, bn1 and layer1 to "
            f"layer4; got {', '.join(list(weights)[:5])}, ..."
        )
    ours, unknown = _MAP.to_ours(weights)
    if unknown:
        raise ValueError(
            "detectron2's ResNet has no counterpart for "
            f"{', '.join(unknown[:5])}{' and more' if len(unknown) > 5 else ''}. Only the plain "
            "ResNets can be converted, not those with a deep stem, average pooling in the "
            "shortcut, or channel attention."
        )
    return ours


def torchvision_names(names: Collection[str]) -> dict[str, str]:
    """Returns the name in detectron2's ResNet for those of ``names`` that have one."""
    return _MAP.names_in_ours(names)
