"""Position encodings: values worked out by hand, one frame equals an image."""

import math

import pytest
import torch

from mask2former.layers import SinePositionEncoding


def test_values_by_hand():
    encoding = SinePositionEncoding(4)(2, 3)
    assert encoding.shape == (6, 8)
    # Row 1 of 2 and column 3 of 3, in 1-based counts: y = pi and x = 2 pi, up to the 1e-6.
    y, x = math.pi, 2 * math.pi
    divisor = 10000**0.5
    parts = [f(a / d) for a in (y, x) for d in (1, divisor) for f in (math.sin, math.cos)]
    torch.testing.assert_close(encoding[2], torch.tensor(parts), rtol=0, atol=1e-5)


def test_frames_add_a_term_of_time():
    position = SinePositionEncoding(4)
    image, clip = position(2, 3), position(2, 3, 5).view(5, 6, 8)
    torch.testing.assert_close(position(2, 3, 1), image)
    time = clip - image
    # The same for all pixels of a frame, another in each frame.
    torch.testing.assert_close(time, time[:, :1].expand_as(time), rtol=0, atol=1e-6)
    z = 2 * math.pi * 2 / 5
    assert time[1, 0, 0].item() == pytest.approx(math.sin(z), abs=1e-5)
    assert time[1, 0, 3].item() == pytest.approx(math.cos(z / 10000 ** (2 / 8)), abs=1e-5)
