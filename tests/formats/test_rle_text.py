"""Run lengths of compressed RLE: agreement with pycocotools, damaged text."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as mask_util
import pytest

from mask2former.formats.rle_text import decode_counts


@pytest.mark.parametrize("seed", range(5))
def test_as_pycocotools_encodes_them(seed: int):
    rng = np.random.default_rng(seed)
    pixels = np.repeat(rng.random(40) < 0.5, rng.integers(1, 90, 40))
    height = 6
    pixels = pixels[: len(pixels) // height * height]
    mask = pixels.reshape(-1, height).T  # runs go down the columns
    text = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    runs = decode_counts(text)
    values = np.arange(len(runs)) % 2 == 1
    assert np.array_equal(np.repeat(values, runs), pixels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "damaged or cut short"),
        (b"0o", "damaged or cut short"),
        (b"0\x20", "damaged or cut short"),
        (b"0\xff", "damaged or cut short"),
        (b"oooooooooo0", "longer than any image"),
    ],
)
def test_damaged_text(text: bytes, message: str):
    with pytest.raises(ValueError, match=f"RLE counts: .*{message}"):
        decode_counts(text)
