"""What the layers of DAT look at: the sampled keys of one pixel of an image."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mask2former.errors import UserError
from mask2former.modeling import D2DAT
from mask2former.modeling.backbone.dat_attention import SampledKeyAttention


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
        UserError: the pixel lies outside of the image.
    """
    height, width = image.shape[1:]
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(
            f"the query point ({x:g}, {y:g}) lies outside of the image of {width} x {height} "
            f"pixels; x must be from 0 to below {width}, y to below {height}"
        )
    strides = list(backbone._out_feature_strides.items())
    layers = [
        (f"stages.{i}.attns.{j}", *strides[i], attn)
        for i, stage in enumerate(backbone.stages)
        for j, attn in enumerate(stage.attns)
        if isinstance(attn, SampledKeyAttention)
    ]
    calls: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name, *_ in layers}
    for name, _, _, attn in layers:
        attn.attend = partial(_recorded, attn.attend, calls[name])
    try:
        with torch.no_grad():
            backbone(image[None])
            return [
                _on_image(name, feature, stride, calls[name], attn, image, x, y)
                for name, feature, stride, attn in layers
            ]
    finally:
        for *_, attn in layers:
            del attn.attend


def _recorded(
    attend: Callable[..., Tensor], calls: list[tuple[Tensor, ...]], *arguments: Tensor
) -> Tensor:
    calls.append(arguments)
    return attend(*arguments)


def _on_image(
    name: str,
    feature: str,
    stride: int,
    calls: list[tuple[Tensor, ...]],
    attn: SampledKeyAttention,
    image: Tensor,
    x: float,
    y: float,
) -> LayerKeys:
    """Return the keys of one layer, of the arguments of all its calls of `attend`."""
    height, width = (-(-side // stride) for side in image.shape[1:])  # of the map
    row, column = int(y // stride), int(x // stride)
    _, _, key, _, positions = calls[0]
    query = torch.cat([call[0] for call in calls], dim=2)[:, :, row * width + column][:, :, None]
    grid = torch.cat([call[1] for call in calls])
    logits = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
    probs = logits + attn.position_bias(grid[row * width + column][None], positions)
    weights = probs.softmax(-1)[0, :, 0].unflatten(0, (attn.groups, -1)).mean(1)
    size = torch.tensor([height, width]).to(positions)

    def to_image(positions: Tensor) -> Tensor:
        pixels = (positions + 1) / 2 * (size - 1) + 0.5  # of the map; the first one from 0 to 1
        return pixels.flip(-1) * stride

    middles = ((torch.arange(n).to(size) + 0.5) * 2 / max(n - 1, 1) - 1 for n in (height, width))
    references = torch.stack(torch.meshgrid(*middles, indexing="ij"), dim=-1).flatten(0, 1)
    place = torch.tensor([column + 0.5, row + 0.5]) * stride
    places = to_image(positions.flatten(1, 2))
    return LayerKeys(name, feature, place, to_image(references), places, weights)
