"""Sine position encodings of pixels and frames, in closed form."""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

_TEMPERATURE = 10000.0  # base of the geometric series of wavelengths
_EPS = 1e-6


@lru_cache(maxsize=256)
def _sine_features(length: int, num_feats: int, device: torch.device | None = None) -> Tensor:
    """Encode the positions 1..length of one axis as interleaved sines and cosines.

    Returns:
        (length, num_feats), float32. Feature k is a sine (k even) or cosine (k odd) of the position
        as a fraction of 2*pi, divided by temperature^(2*floor(k/2)/num_feats).
    """
    position = torch.arange(1, length + 1, dtype=torch.float32)
    position = position / (length + _EPS) * (2 * math.pi)
    k = torch.arange(num_feats, dtype=torch.float32)
    divisor = _TEMPERATURE ** (2 * torch.div(k, 2, rounding_mode="floor") / num_feats)
    angle = position[:, None] / divisor
    # Computed on the CPU, so that all devices have the same, and sent without waiting.
    features = torch.where(k % 2 == 0, angle.sin(), angle.cos())
    return features.to(device, non_blocking=True)


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
        # A graph that is being traced must not keep tensors of another call.
        compiling = torch.compiler.is_compiling()
        features = _sine_features.__wrapped__ if compiling else _sine_features
        y = features(height, self.num_feats, device)[:, None].expand(height, width, self.num_feats)
        x = features(width, self.num_feats, device)[None].expand(height, width, self.num_feats)
        encoding = torch.cat([y, x], dim=-1).flatten(0, 1)
        if frames == 1:
            return encoding
        # The published encoding adds the time term for one frame too, where it is the same for
        # all keys and so cancels in the softmax: leaving it out makes an image a one-frame clip.
        time = features(frames, 2 * self.num_feats, device)
        return (encoding + time[:, None]).flatten(0, 1)
