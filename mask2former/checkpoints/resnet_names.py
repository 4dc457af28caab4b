"""Names of ResNet weights in torchvision and timm (which use the same), and in detectron2."""

from collections.abc import Collection

from .name_map import NameMap

# Ours are detectron2's names, theirs torchvision's.
RESNET_NAMES = NameMap(
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
    """Tell whether ``names`` are those of a plain ResNet of torchvision or timm."""
    return {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight"} <= set(names)
