"""Sine position encodings of pixels and frames, in closed form."""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

_TWO_PI = 2 * math.pi
_EPS = 1e-6


@lru_cache(maxsize=256)
def _sine_features(
    length: int,
    num_feats: int,
    temperature: float,
    scale: float | None,
    device: torch.device | None = None,
) -> Tensor:
    """Encode the positions 1..length of one axis as interleaved sines and cosines.

    Returns:
        (length, num_feats), float32. Feature k is a sine (k even) or cosine (k odd) of the position
        divided by temperature^(2*floor(k/2)/num_feats).
    """
    position = torch.arange(1, length + 1, dtype=torch.float32)
    if scale is not None:
        position = position / (length + _EPS) * scale
    k = torch.arange(num_feats, dtype=torch.float32)
    divisor = temperature ** (2 * torch.div(k, 2, rounding_mode="floor") / num_feats)
    angle = position[:, None] / divisor
    # Computed on the CPU, so that all devices have the same, and sent without waiting.
    features = torch.where(k % 2 == 0, angle.sin(), angle.cos())
    return features.to(device, non_blocking=True)


def _encode(
    frames: int,
    height: int,
    width: int,
    num_feats: int,
    temperature: float,
    scale: float | None,
    device: torch.device | None,
) -> Tensor:
    """Compute the encoding of a clip, (T, H, W, 2*num_feats)."""
    # A graph that is being traced must not keep tensors of another call.
    compiling = torch.compiler.is_compiling()
    features = _sine_features.__wrapped__ if compiling else _sine_features
    y = features(height, num_feats, temperature, scale, device)
    x = features(width, num_feats, temperature, scale, device)
    grid = torch.cat(
        [
            y[:, None].expand(height, width, num_feats),
            x[None].expand(height, width, num_feats),
        ],
        dim=-1,
    )[None]
    if frames > 1:
        # The published encoding adds the time term for one frame too, where it is the same for
        # all keys and so cancels in the softmax: leaving it out makes an image a one-frame clip.
        time = features(frames, 2 * num_feats, temperature, scale, device)
        grid = grid + time[:, None, None]
    return grid


class SinePositionEncoding(nn.Module):
    """Fixed sine encoding of a pixel's row and column and, in clips, of its frame.

    Source: DETR, Carion et al. 2020, appendix A.4, over normalised 1-based positions; in time as
    in Mask2Former for video, Cheng et al. 2021, section 3.1. It has no parameters. What is kept
    between calls is a row's and a column's worth: a map of every size would fill the memory.

    Args:
        num_feats: features of each spatial axis; the encoding has twice as many channels.
        temperature: base of the geometric series of wavelengths.
        normalize: divide positions by the length of their axis.
        scale: what a normalised position of 1 maps to; 2*pi if not given.

    Raises:
        ValueError: a scale is given without normalize.
    """

    def __init__(
        self,
        num_feats: int,
        temperature: float = 10000.0,
        normalize: bool = True,
        scale: float | None = None,
    ):
        super().__init__()
        if scale is not None and not normalize:
            raise ValueError("SinePositionEncoding: a scale needs normalize=True.")
        self.num_feats = num_feats
        self.temperature = temperature
        self.scale = (_TWO_PI if scale is None else scale) if normalize else None

    def forward(
        self, height: int, width: int, frames: int = 1, *, device: torch.device | None = None
    ) -> Tensor:
        """Encode all pixels of a clip.

        Returns:
            (T*H*W, 2*num_feats), float32, frame-major: the first half of the channels encodes the
            row, the second half the column.
        """
        args = (frames, height, width, self.num_feats, self.temperature, self.scale, device)
        return _encode(*args).flatten(0, 2)
