"""What the layers of DAT look at: the sampled keys of one pixel of an image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .dat import D2DAT
from .dat_attention import SampledKeyAttention, SampledKeys

__all__ = ["LayerKeys", "find_keys"]


class LayerKeys(NamedTuple):
    """The sampled keys of one layer, for the query at one pixel.

    Places are (x, y) in pixels of the image, of which the first lies between 0 and 1. They may lie
    outside of the image, by up to a few pixels of the map.

    Attributes:
        name: of the layer in the backbone.
        feature: the stage that it belongs to, res2 to res5.
        query: place of the query, (2,).
        references: places from which the keys were moved, (N, 2).
        places: of the keys, (G, N, 2) for G groups of heads.
        weights: attention of the query to each key, mean of a group's heads, (G, N); the sum over N
            is 1.
    """

    name: str
    feature: str
    query: Tensor
    references: Tensor
    places: Tensor
    weights: Tensor


def find_keys(backbone: D2DAT, image: Tensor, x: float, y: float) -> list[LayerKeys]:
    """Run a backbone on an image and return what its layers look at from one pixel.

    Args:
        backbone: in eval mode.
        image: (3, H, W), normalised as the backbone expects.
        x, y: the pixel, from 0 to W and to H.

    Returns:
        one entry for each layer of sampled keys, in their order.

    Raises:
        ValueError: the pixel lies outside of the image.
    """
    height, width = image.shape[1:]
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(
            f"the query point ({x:g}, {y:g}) lies outside of the image of {width} x {height} "
            f"pixels; x must be from 0 to below {width}, y to below {height}"
        )
    strides = list(backbone._out_feature_strides.items())
    found = []
    for i, stage in enumerate(backbone.stages):
        for j, attn in enumerate(stage.attns):
            if isinstance(attn, SampledKeyAttention):
                found.append((f"stages.{i}.attns.{j}", *strides[i], attn))
    inputs: dict[str, Tensor] = {}
    hooks = [
        attn.register_forward_pre_hook(lambda _, args, name=name: inputs.update({name: args[0]}))
        for name, _, _, attn in found
    ]
    try:
        with torch.no_grad():
            backbone(image[None])
            return [
                _on_image(name, feature, stride, inputs[name], attn, x, y)
                for name, feature, stride, attn in found
            ]
    finally:
        for hook in hooks:
            hook.remove()


def _on_image(
    name: str,
    feature: str,
    stride: int,
    maps: Tensor,
    attn: SampledKeyAttention,
    x: float,
    y: float,
) -> LayerKeys:
    column, row = int(x // stride), int(y // stride)
    keys: SampledKeys = attn.keys(maps, row, column)
    size = torch.tensor(maps.shape[1:3]).to(keys.positions)  # H, W

    def to_image(positions: Tensor) -> Tensor:
        pixels = (positions + 1) / 2 * (size - 1) + 0.5  # of the map; the first one from 0 to 1
        return pixels.flip(-1) * stride

    query = torch.tensor([column + 0.5, row + 0.5]) * stride
    weights = keys.probs[0].unflatten(0, (attn.groups, -1)).mean(1)
    places = to_image(keys.positions[0])
    return LayerKeys(name, feature, query, to_image(keys.references), places, weights)
