"""RLE: agreement with pycocotools on random masks, values worked out by hand, errors."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mask2former.formats.rle import (
    _decode_counts,
    area,
    as_text,
    bounding_box,
    concatenate_frames,
    encode_masks,
    encode_segments,
    from_intervals,
    run_lengths,
)

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))


def decode(rle):
    return mask_util.decode(rle).astype(bool)


@settings(max_examples=40)
@given(masks)
def test_encode_then_decode_with_pycocotools(mask):
    for one, rle in zip(mask, encode_masks(mask), strict=True):
        np.testing.assert_array_equal(decode(rle), one)


def test_encode_takes_bool_float_and_int_tensors():
    mask = torch.tensor([[[0, 1, 1], [0, 0, 1]]])
    expected = encode_masks(mask.bool())
    assert encode_masks(mask) == encode_masks(mask.float()) == expected
    assert encode_masks(mask * 0.4) != expected  # half and less is background


@settings(max_examples=40)
@given(masks)
def test_run_lengths_of_text(mask):
    height, width = mask.shape[1:]
    for one, rle in zip(mask, encode_masks(mask), strict=True):
        runs = run_lengths(rle, height, width)
        pixels = np.repeat(np.arange(runs.size) % 2 == 1, runs)
        np.testing.assert_array_equal(pixels.reshape(width, height).T, one)


def test_run_lengths_by_hand():
    # Down the columns: 1 background, 2 foreground, 3 background
    mask = np.array([[0, 1, 0], [1, 0, 0]], bool)
    rle = encode_masks(mask[None])[0]
    assert run_lengths(rle, 2, 3).tolist() == [1, 2, 3]
    assert run_lengths({"size": [2, 3], "counts": [1, 2, 3]}, 2, 3).tolist() == [1, 2, 3]
    assert run_lengths({**rle, "counts": rle["counts"].encode()}, 2, 3).tolist() == [1, 2, 3]


def test_run_lengths_of_large_masks_have_long_codes():
    mask = np.zeros((3000, 4000), bool)
    mask[1234:, 2345] = True
    runs = run_lengths(encode_masks(mask[None])[0], 3000, 4000)
    assert runs.tolist() == [2345 * 3000 + 1234, 3000 - 1234, 1654 * 3000]


@settings(max_examples=40)
@given(masks, st.data())
def test_frames_side_by_side(mask, data):
    num_frames, height, width = mask.shape
    shown = data.draw(st.lists(st.booleans(), min_size=num_frames, max_size=num_frames))
    rles = encode_masks(mask)
    frames = [run_lengths(r, height, width) if s else None for r, s in zip(rles, shown)]
    wide = np.concatenate([m & s for m, s in zip(mask, shown)], axis=1)
    assert concatenate_frames(frames, height, width) == encode_masks(wide[None])[0]


def test_frames_merge_runs_that_touch():
    full, empty_run = np.array([0, 4]), np.array([0, 2, 0, 2])  # 2 x 2 foreground, in two ways
    rle = concatenate_frames([full, empty_run, None], 2, 2)
    assert run_lengths(rle, 2, 6).tolist() == [0, 8, 4]


def test_too_many_pixels_for_pycocotools():
    with pytest.raises(ValueError, match="3000 frames of 1080 x 1920 have more than 4294967295"):
        concatenate_frames([None] * 3000, 1080, 1920)


@settings(max_examples=40)
@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 4)))
def test_segments_of_a_map(segment_map):
    ids = [3, 0, 7, 1]
    expected = encode_masks(np.stack([segment_map == i for i in ids]))
    assert encode_segments(segment_map, ids) == expected


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_of_what_pycocotools_encodes(seed):
    rng = np.random.default_rng(seed)
    pixels = np.repeat(rng.random(40) < 0.5, rng.integers(1, 90, 40))
    pixels = pixels[: len(pixels) // 6 * 6]
    mask = pixels.reshape(-1, 6).T  # runs go down the columns
    rle = mask_util.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = run_lengths(rle, *mask.shape)
    np.testing.assert_array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), pixels)


DAMAGED = [
    ({"size": [3, 2], "counts": [6]}, r"RLE size: expected \[2, 3\], got \[3, 2\]"),
    ({"size": [3, 2], "counts": "6"}, r"RLE size: expected \[2, 3\], got \[3, 2\]"),
    ({"size": 6, "counts": "6"}, r"RLE size: expected \[2, 3\], got 6"),
    ({"counts": [6]}, r"RLE size: expected \[2, 3\], got None"),
    ({"size": [2, 3], "counts": [4, 5]}, "2 runs over 9 of 6 pixels"),
    ({"size": [2, 3], "counts": [4, 1]}, "2 runs over 5 of 6 pixels"),  # too short
    ({"size": [2, 3], "counts": "05"}, "2 runs over 5 of 6 pixels"),
    ({"size": [2, 3], "counts": b"4"}, "1 runs over 4 of 6 pixels"),
    ({"size": [2, 3], "counts": "07"}, "2 runs over 7 of 6 pixels"),  # too long
    ({"size": [2, 3], "counts": [7, -1]}, "runs >= 0"),
    ({"size": [2, 3], "counts": []}, "0 runs over 0 of 6"),
    ({"size": [2, 3], "counts": [6, 10**30]}, "expected text or a list of integers"),
    ({"size": [2, 3], "counts": ["six"]}, "expected text or a list of integers"),
    ({"size": [2, 3]}, "expected text or a list of integers"),
    ({"size": [2, 3], "counts": ""}, "damaged or cut short"),
    ({"size": [2, 3], "counts": "12P"}, "damaged or cut short"),  # P promises one more
    ({"size": [2, 3], "counts": b"ooooo"}, "damaged or cut short"),
    ({"size": [2, 3], "counts": "1\x7f2"}, "damaged or cut short"),
    ({"size": [2, 3], "counts": "0\x20"}, "damaged or cut short"),
    ({"size": [2, 3], "counts": "0\u00ff"}, "2 runs over 15 of 6"),  # taken for a question mark
    ({"size": [2, 3], "counts": b"0\xff"}, "damaged or cut short"),
    ({"size": [2, 3], "counts": b"oooooooo0"}, "longer than any image"),
]


@pytest.mark.parametrize(("rle", "message"), DAMAGED)
@pytest.mark.parametrize("function", [run_lengths, as_text])
def test_damaged_rle(function, rle, message):
    with pytest.raises(ValueError, match=message):
        function(rle, 2, 3)


def test_masks_need_three_axes():
    with pytest.raises(ValueError, match=r"expected \(N, H, W\), got shape \(2, 3\)"):
        encode_masks(np.zeros((2, 3), bool))


def test_area_and_box():
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    (rle,) = encode_masks(mask[None])
    assert area(rle) == 15 and bounding_box(rle) == [2, 1, 5, 3]


def test_intervals_in_any_order_that_may_overlap_and_touch():
    random = np.random.default_rng(2)
    for _ in range(20):
        height, width = random.integers(1, 30, 2)
        mask, intervals = np.zeros((height, width), bool), []
        for _ in range(random.integers(1, 40)):
            x, y = int(random.integers(width)), int(random.integers(height))
            end = int(random.integers(y, height)) + 1
            mask[y:end, x] = True
            intervals.append((x * height + y, x * height + end))
        rle, box = from_intervals(np.array(intervals), int(height), int(width))
        assert (mask_util.decode(rle) == mask).all()
        assert list(box) == mask_util.toBbox(rle).tolist()


def test_intervals_of_a_mask_of_more_pixels_than_32_bits_count():
    side = 100_000
    rle, box = from_intervals(np.array([[side * side - 5, side * side]]), side, side)
    assert box == (side - 1, side - 5, 1, 5)
    assert _decode_counts(rle["counts"].encode()).tolist() == [side * side - 5, 5]
