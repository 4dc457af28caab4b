"""Label maps and panoptic PNGs: every mode, tables, damaged files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mask2former.formats.label_maps import (
    count_values,
    look_up,
    read_labels,
    read_objects,
    read_panoptic_png,
    write_panoptic_png,
)

PIXELS = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8)  # 1 x 3


def _save(path: Path, array: np.ndarray, mode: str | None = None, **options) -> str:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return str(path)


@pytest.mark.parametrize(
    ("array", "mode", "dtype"),
    [
        (np.array([[0, 7, 255]], np.uint8), "L", np.uint8),
        (np.array([[0, 7, 846]], np.uint16), None, np.uint16),
        (np.array([[0, 7, 70000]], np.int32), None, np.int32),
    ],
)
def test_label_maps_keep_their_numbers(tmp_path: Path, array, mode, dtype) -> None:
    labels = read_labels(_save(tmp_path / "a.tif", array, mode))
    assert labels.dtype == dtype
    np.testing.assert_array_equal(labels, array)


def test_labels_of_palette_images_are_indices(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(str(tmp_path / "a.png")), [[0, 1, 2]])


def test_labels_of_black_and_white_images_are_0_and_1(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.array([[0, 255]], np.uint8), "1")
    np.testing.assert_array_equal(read_labels(path), [[0, 1]])


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_segment_ids_are_base_256_with_red_lowest(tmp_path: Path, mode: str) -> None:
    path = _save(tmp_path / "a.png", np.array([[[1, 2, 3], [0, 0, 0], [255, 255, 255]]], np.uint8))
    Image.open(path).convert(mode).save(path)
    expected = [[1 + 2 * 256 + 3 * 65536, 0, 2**24 - 1]]
    np.testing.assert_array_equal(read_panoptic_png(path), expected)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_equal_channels_count_as_one(tmp_path: Path, mode: str) -> None:
    grey = np.array([[0, 7, 255]], np.uint8)
    path = _save(tmp_path / "a.png", np.dstack([grey] * 3), mode)
    np.testing.assert_array_equal(read_labels(path), grey)


@pytest.mark.parametrize("read", [read_labels, read_objects, read_panoptic_png])
@pytest.mark.parametrize("name", ["a.jpg", "disguised.png"])
def test_jpeg_is_no_map(tmp_path: Path, read, name: str) -> None:
    Image.fromarray(PIXELS[:, :, 0]).save(tmp_path / name, format="JPEG")
    with pytest.raises(ValueError, match=rf"map .*{name}: JPEG changes the values .* as PNG"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("labels", "palette", "expected"),
    [
        ([0, 3, 9, 255], True, [0, 3, 9, 0]),  # an object's palette of Pascal VOC
        ([0, 1, 2, 255], False, [0, 1, 2, 0]),  # the same without it
        ([0, 85, 170, 255], False, [0, 85, 170, 255]),
        ([0, 0, 255, 255], True, [0, 0, 255, 255]),
        ([0, 0, 255, 255], False, [0, 0, 255, 255]),  # a mask
    ],
)
def test_void_is_no_object(tmp_path: Path, labels, palette: bool, expected) -> None:
    image = Image.fromarray(np.array([labels], np.uint8))
    if palette:
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    image.save(tmp_path / "a.png")
    assert read_objects(tmp_path / "a.png").tolist() == [expected]


def test_values_of_any_size_are_counted_in_little_memory(tmp_path: Path) -> None:
    no_data = 2**31 - 1
    labels = read_labels(
        _save(tmp_path / "a.tif", np.array([[0, 3, no_data], [3, 3, 0]], np.int32))
    )
    assert count_values(labels) == {0: 2, 3: 3, no_data: 1}
    assert count_values(np.zeros((0, 4), np.uint8)) == {}


def test_label_map_in_colours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.png: expected one channel .* mode RGB"):
        read_labels(_save(tmp_path / "a.png", PIXELS))


def test_negative_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="values from 0 on, got -1"):
        read_labels(_save(tmp_path / "a.tif", np.array([[-1, 3]], np.int32)))


def test_png_round_trip(tmp_path):
    segment_map = np.array([[0, 1, 255], [256, 65536, 2**24 - 1]])
    write_panoptic_png(tmp_path / "new" / "map.png", segment_map)
    np.testing.assert_array_equal(read_panoptic_png(tmp_path / "new" / "map.png"), segment_map)
    rgb = cv2.imread(str(tmp_path / "new" / "map.png"))[..., ::-1].astype(int)
    np.testing.assert_array_equal(rgb @ [1, 256, 65536], segment_map)  # COCO's definition


def test_png_with_alpha_or_grey(tmp_path):
    bgra = np.zeros((2, 2, 4), np.uint8)
    bgra[0, 1] = (3, 2, 1, 200)
    cv2.imwrite(str(tmp_path / "alpha.png"), bgra)
    expected = [[0, 1 + 2 * 256 + 3 * 65536], [0, 0]]
    np.testing.assert_array_equal(read_panoptic_png(tmp_path / "alpha.png"), expected)
    cv2.imwrite(str(tmp_path / "grey.png"), np.array([[0, 700]], np.uint16))
    np.testing.assert_array_equal(read_panoptic_png(tmp_path / "grey.png"), [[0, 700]])
    cv2.imwrite(str(tmp_path / "deep.png"), bgra[..., :3].astype(np.uint16))
    with pytest.raises(ValueError, match=r"deep.png: expected .* 8 bits .* mode RGB of 16"):
        read_panoptic_png(tmp_path / "deep.png")


def test_ids_that_no_png_can_hold(tmp_path):
    for value in (-1, 2**24):
        with pytest.raises(ValueError, match=rf"from 0 to 2\^24 - 1.* got {value} to {value}"):
            write_panoptic_png(tmp_path / "map.png", np.array([[value]]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_grey_panoptic_maps_hold_the_ids_themselves(tmp_path: Path, bits: int) -> None:
    ids = np.array([[0, 1, 1]]) * {1: 1, 8: 250, 16: 700}[bits]
    array = ids * 255 if bits == 1 else ids
    dtype = np.uint16 if bits == 16 else np.uint8
    path = _save(tmp_path / "a.png", array.astype(dtype), "1" if bits == 1 else None)
    found = read_panoptic_png(path)
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, ids)


def test_palette_of_a_panoptic_map_is_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([0, 0, 0, 7, 1, 2])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_panoptic_png(tmp_path / "a.png"), [[0, 7 + 256 + 2 * 65536]])


def test_grey_with_transparency_is_no_panoptic_map(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", PIXELS[:, :, 0], "LA")
    with pytest.raises(ValueError, match=r"a\.png: expected an RGB image .* got mode LA"):
        read_panoptic_png(path)


@pytest.mark.parametrize("read", [read_labels, read_panoptic_png])
def test_damaged_and_missing_files_are_named(tmp_path: Path, read) -> None:
    with pytest.raises(FileNotFoundError, match=r"not found: .*gone\.png"):
        read(tmp_path / "gone.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = Path(_save(tmp_path / "cut.png", noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cut\.png: damaged or truncated"):
        read(path)


# Tables


@settings(max_examples=60)
@given(
    hnp.arrays(np.uint32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 9)),
    st.dictionaries(st.integers(-3, 12), st.integers(0, 250)),
)
def test_look_up_is_a_table_pixel_by_pixel(labels, table) -> None:
    expected = [[table.get(value, 255) for value in row] for row in labels.tolist()]
    found = look_up(labels, table, 255, np.uint8)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_look_up_of_large_values_and_of_nothing() -> None:
    labels = np.array([[7, 2**24], [9, 7]])
    expected = [[0, 2], [65535, 0]]
    assert look_up(labels, {7: 0, 2**24: 2}, 65535, np.uint16).tolist() == expected
    assert look_up(np.zeros((0, 4), np.uint8), {1: 2}, 0, np.uint8).shape == (0, 4)
