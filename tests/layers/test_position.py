"""Position encodings: values worked out by hand, one frame equals an image."""

import math

import pytest
import torch

from mask2former.layers import (
    PositionEmbeddingSine,
    PositionEmbeddingSine3D,
    SinePositionEncoding,
)


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


def test_published_call_gives_the_same_for_pixels_and_frames():
    maps = torch.zeros(2, 5, 2, 3)
    image = PositionEmbeddingSine(4, normalize=True)(maps)
    assert image.shape == (2, 8, 2, 3)
    expected = SinePositionEncoding(4)(2, 3)
    torch.testing.assert_close(image.flatten(2)[1].T, expected)
    clip = PositionEmbeddingSine3D(4, normalize=True)(maps.view(1, 2, 5, 2, 3))
    assert clip.shape == (1, 2, 8, 2, 3)
    expected = SinePositionEncoding(4)(2, 3, 2)
    torch.testing.assert_close(clip[0].flatten(2).transpose(1, 2).flatten(0, 1), expected)
    one = PositionEmbeddingSine3D(4, normalize=True)(maps[None, :1])  # has a term of time too
    assert not torch.allclose(one[0], image[:1])


@pytest.mark.parametrize("kind", [PositionEmbeddingSine, PositionEmbeddingSine3D])
def test_pixels_that_a_mask_leaves_out_are_not_counted(kind):
    """The upper left corner of a padded map is encoded as the map without padding."""
    lead = kind.in_axes.index("C")
    small, large = torch.zeros(*(2,) * lead, 1, 3, 4), torch.zeros(*(2,) * lead, 1, 5, 7)
    mask = torch.ones(*(2,) * lead, 5, 7, dtype=torch.bool)
    mask[..., :3, :4] = False
    for rule in ({"normalize": True}, {"normalize": True, "scale": 1.0}, {"temperature": 20}):
        position = kind(6, **rule)
        torch.testing.assert_close(position(large, mask)[..., :3, :4], position(small))
        torch.testing.assert_close(position(small, mask[..., :3, :4]), position(small))


def test_positions_in_pixels_by_hand():
    row = PositionEmbeddingSine(2)(torch.zeros(1, 1, 1, 3))[0, 2:, 0]  # sine and cosine of x
    angle = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(row, torch.stack([angle.sin(), angle.cos()]))


def test_errors_of_the_published_call():
    with pytest.raises(ValueError, match="a scale, 3, needs normalize"):
        PositionEmbeddingSine(4, scale=3)
    with pytest.raises(ValueError, match=r"3D: expected x \(B, T, C, H, W\), got \(1, 2, 3, 4\)"):
        PositionEmbeddingSine3D(4)(torch.zeros(1, 2, 3, 4))
