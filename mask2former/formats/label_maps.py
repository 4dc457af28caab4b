"""Maps of integers as images: classes of pixels, and segment ids in COCO's panoptic PNGs."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from ..errors import UserError
from .atomic import PathLike
from .images import write_image
from .pillow import load_image

# Pillow's modes of one channel whose values are integers.
_INTEGER_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


def read_labels(path: PathLike) -> np.ndarray:
    """Read a map of class indices from a one-channel image of 1, 8, 16 or 32 bits.

    The values of a palette image are its indices, as the Pascal VOC annotations have it. An image
    of three equal channels of 8 bits counts as one.

    Returns:
        (H, W) uint8, uint16 or int32.

    Raises:
        FileNotFoundError: no such file.
        UserError: damaged file, JPEG, several channels or a negative value; names the file.
    """
    return _labels(_load(path, "Label map"), path)


def read_objects(path: PathLike) -> np.ndarray:
    """Read a map of objects as `read_labels` reads one of classes, with 0 for none.

    255 is none, too, as in Pascal VOC's maps, where the others are indices of a palette, or are
    counted from 1; alone, it is an object.
    """
    image = _load(path, "Label map")
    labels = _labels(image, path)
    objects = values_in(labels) - {0, 255}
    if objects and (image.mode == "P" or objects == set(range(1, len(objects) + 1))):
        labels = np.where(labels == 255, 0, labels)
    return labels


def read_panoptic_png(path: PathLike) -> np.ndarray:
    """Read a panoptic map.

    Args:
        path: PNG whose segment ids are R + 256 G + 65536 B, or the values themselves where it is
            grey.

    Returns:
        uint32 (H, W), 0 for void.

    Raises:
        FileNotFoundError: no such file.
        UserError: damaged file, JPEG, colours of 16 bits, a grey image with transparency or a
            negative value; names the file.
    """
    image = _load(path, "Panoptic map")
    if image.mode in _INTEGER_MODES and image.mode != "P":
        return _values(image, path).astype(np.uint32)
    if image.mode not in ("RGB", "RGBA", "P") or image.info["bits"] > 8:
        raise UserError(
            f"Panoptic map {path}: expected an RGB image of 8 bits a channel with segment ids "
            f"R + 256 G + 65536 B, or a grey one with the ids themselves, got mode {image.mode} "
            f"of {image.info['bits']} bits"
        )
    if image.mode == "P":
        image = image.convert("RGB")
    ids = np.frombuffer(image.convert("RGBA").tobytes(), "<u4") & 0xFFFFFF  # without alpha
    return ids.reshape(image.height, image.width)


def write_panoptic_png(path: PathLike, segment_map: np.ndarray) -> None:
    """Write a panoptic map atomically, and make its folder.

    Args:
        segment_map: (H, W) integers in [0, 2^24).

    Raises:
        UserError: other ids; names the file.
    """
    if segment_map.size and not 0 <= segment_map.min() <= segment_map.max() < 1 << 24:
        raise UserError(
            f"{path}: expected segment ids from 0 to 2^24 - 1, which is what a PNG can hold, "
            f"got {segment_map.min()} to {segment_map.max()}"
        )
    little_endian = np.ascontiguousarray(segment_map, dtype="<u4")
    rgba = little_endian.view(np.uint8).reshape(*segment_map.shape, 4)
    write_image(path, rgba[..., :3])


def look_up(
    labels: np.ndarray, table: Mapping[int, int], default: int, dtype: type[np.integer]
) -> np.ndarray:
    """Replace every value of a map by its entry in a table.

    Maps are compact, so the runs of equal values along the rows are few; only these are looked up.

    Args:
        labels: (H, W) integers.
        table: from values to what takes their place.
        default: what takes the place of values that the table lacks.
        dtype: of the result.

    Returns:
        (H, W).
    """
    starts, values = _runs(labels)
    present, index = np.unique(values, return_inverse=True)
    found = np.array([table.get(value, default) for value in present.tolist()], dtype)[index]
    return np.repeat(found, np.diff(starts, append=labels.size)).reshape(labels.shape)


def values_in(labels: np.ndarray) -> set[int]:
    """Return the values that occur in a map (H, W) of integers."""
    return set(_runs(labels)[1].tolist())


def count_values(labels: np.ndarray) -> dict[int, int]:
    """Return the number of pixels of each value of a map (H, W), in memory that values don't move.

    Maps have values up to 2^31 - 1, for no data.
    """
    starts, values = _runs(labels)
    present, index = np.unique(values, return_inverse=True)
    pixels = np.bincount(index, np.diff(starts, append=labels.size), present.size)
    return dict(zip(present.tolist(), pixels.astype(np.int64).tolist()))


def _runs(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the runs of equal values begin in the flat map, and their values, int64."""
    flat = labels.reshape(-1)
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))[: flat.size]
    return starts, flat[starts].astype(np.int64)


def _load(path: PathLike, kind: str) -> Image.Image:
    image = load_image(path)
    if image.format in ("JPEG", "MPO"):
        raise UserError(
            f"{kind} {path}: JPEG changes the values of pixels, so that what they stood for is "
            "lost; write the map as PNG where it is made"
        )
    return image


def _labels(image: Image.Image, path: PathLike) -> np.ndarray:
    if image.mode in _INTEGER_MODES:
        return _values(image, path)
    if image.mode in ("RGB", "RGBA") and image.info["bits"] == 8:
        channels = np.asarray(image)
        if (channels[..., :1] == channels[..., 1:3]).all():
            return channels[..., 0]
    raise UserError(
        f"Label map {path}: expected one channel with a class index in each pixel, got mode "
        f"{image.mode} of {image.info['bits']} bits. If colours stand for classes there, convert "
        "them to indices first, such as with a palette."
    )


def _values(image: Image.Image, path: PathLike) -> np.ndarray:
    values = np.asarray(image.convert("L")) // 255 if image.mode == "1" else np.asarray(image)
    if values.dtype == np.uint8:
        return values
    if values.dtype.itemsize == 4 and values.min(initial=0) < 0:
        raise UserError(f"Label map {path}: expected values from 0 on, got {values.min()}")
    return values.astype(np.uint16 if values.dtype.itemsize == 2 else np.int32, copy=False)
