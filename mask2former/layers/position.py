"""Sine position encodings of pixels and frames, in closed form."""

import math
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn

_TEMPERATURE = 10000.0  # base of the geometric series of wavelengths
_SCALE = 2 * math.pi  # what the length of an axis is mapped to
_EPS = 1e-6


def _waves(position: Tensor, num_feats: int, temperature: float) -> Tensor:
    """Encode positions (...) as interleaved sines and cosines (..., num_feats).

    Feature k is a sine (k even) or cosine (k odd) of the position, divided by
    temperature^(2*floor(k/2)/num_feats).
    """
    k = torch.arange(num_feats, dtype=torch.float32, device=position.device)
    divisor = temperature ** (2 * torch.div(k, 2, rounding_mode="floor") / num_feats)
    angle = position[..., None] / divisor
    return torch.where(k % 2 == 0, angle.sin(), angle.cos())


@lru_cache(maxsize=256)
def _sine_features(
    length: int,
    num_feats: int,
    device: torch.device | None = None,
    temperature: float = _TEMPERATURE,
    scale: float | None = _SCALE,
) -> Tensor:
    """Encode the positions 1..length of one axis, as fractions of `scale` if there is one.

    Returns:
        (length, num_feats), float32, see `_waves`.
    """
    position = torch.arange(1, length + 1, dtype=torch.float32)
    if scale is not None:
        position = position / (length + _EPS) * scale
    # Computed on the CPU, so that all devices have the same, and sent without waiting.
    return _waves(position, num_feats, temperature).to(device, non_blocking=True)


def _axis(length: int, num_feats: int, device: torch.device | None, *rule: float | None) -> Tensor:
    """Return `_sine_features`; a graph that is being traced must not keep tensors of another
    call."""
    compiling = torch.compiler.is_compiling()
    features = _sine_features.__wrapped__ if compiling else _sine_features
    return features(length, num_feats, device, *rule)


class SinePositionEncoding(nn.Module):
    """Fixed sine encoding of a pixel's row and column and, in clips, of its frame.

    Source: DETR, Carion et al. 2020, appendix A.4, over normalised 1-based positions; in time as
    in Mask2Former for video, Cheng et al. 2021, section 3.1. It has no parameters. What is kept
    between calls is a row's and a column's worth: a map of every size would fill the memory.

    Args:
        num_feats: features of each spatial axis; the encoding has twice as many channels.
    """

    def __init__(self, num_feats: int):
        super().__init__()
        self.num_feats = num_feats

    def forward(
        self, height: int, width: int, frames: int = 1, *, device: torch.device | None = None
    ) -> Tensor:
        """Encode all pixels of a clip.

        Returns:
            (T*H*W, 2*num_feats), float32, frame-major: the first half of the channels encodes the
            row, the second half the column.
        """
        y = _axis(height, self.num_feats, device)[:, None].expand(height, width, self.num_feats)
        x = _axis(width, self.num_feats, device)[None].expand(height, width, self.num_feats)
        encoding = torch.cat([y, x], dim=-1).flatten(0, 1)
        if frames == 1:
            return encoding
        # The published encoding adds the time term for one frame too, where it is the same for
        # all keys and so cancels in the softmax: leaving it out makes an image a one-frame clip.
        time = _axis(frames, 2 * self.num_feats, device)
        return (encoding + time[:, None]).flatten(0, 1)


class PositionEmbeddingSine(nn.Module):
    """The encoding of pixels with the published arguments and call.

    Args:
        num_pos_feats: features of each axis; the encoding has twice as many channels.
        temperature: base of the geometric series of wavelengths.
        normalize: count positions in fractions of the map instead of in pixels.
        scale: what the length of an axis is mapped to with normalize; 2*pi if not given.

    Raises:
        ValueError: a scale without normalize.
    """

    in_axes: ClassVar[tuple[str, ...]] = ("B", "C", "H", "W")

    def __init__(
        self,
        num_pos_feats: int = 64,
        temperature: float = _TEMPERATURE,
        normalize: bool = False,
        scale: float | None = None,
    ):
        super().__init__()
        if scale is not None and not normalize:
            raise ValueError(f"{type(self).__name__}: a scale, {scale}, needs normalize=True.")
        self.num_pos_feats = num_pos_feats
        self.temperature = temperature
        self.normalize = normalize
        self.scale = _SCALE if scale is None else scale

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode the pixels of maps.

        Args:
            x: (B, C, H, W), for clips (B, T, C, H, W), of which the sizes alone count.
            mask: (B, H, W) or (B, T, H, W), bool, True at padding, which is not counted.

        Returns:
            (B, 2*num_pos_feats, H, W) or (B, T, 2*num_pos_feats, H, W), float32.

        Raises:
            ValueError: x has another number of axes.
        """
        if x.dim() != len(self.in_axes):
            raise ValueError(
                f"{type(self).__name__}: expected x ({', '.join(self.in_axes)}), "
                f"got {tuple(x.shape)}."
            )
        rows, columns = (self._encode(x, mask, dim, self.num_pos_feats) for dim in (-2, -1))
        encoding = torch.cat(torch.broadcast_tensors(rows, columns), -1)
        if "T" in self.in_axes:
            encoding = encoding + self._encode(x, mask, -3, 2 * self.num_pos_feats)
        return encoding.movedim(-1, -3).expand(x.shape[0], *(-1,) * (x.dim() - 1))

    def _encode(self, x: Tensor, mask: Tensor | None, dim: int, num_feats: int) -> Tensor:
        """Encode the axis `dim` of x without its channels: broadcastable to all axes, and last
        num_feats."""
        length = (*x.shape[:-3], *x.shape[-2:])[dim]
        scale = self.scale if self.normalize else None
        if mask is None:
            features = _axis(length, num_feats, x.device, self.temperature, scale)
            return features.view(length, *(1,) * (-dim - 1), num_feats)
        position = (~mask).cumsum(dim, dtype=torch.float32)
        if scale is not None:
            position = position / (position.narrow(dim, length - 1, 1) + _EPS) * scale
        return _waves(position, num_feats, self.temperature)


class PositionEmbeddingSine3D(PositionEmbeddingSine):
    """The same for clips, whose frames add a term of time, be it one frame alone."""

    in_axes = ("B", "T", "C", "H", "W")
