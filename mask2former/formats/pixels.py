"""From the values of a photo, whatever their type and range, to 8 bits."""

from typing import Any

import numpy as np

from ..errors import UserError

_DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras and scanners; files hold all of them as 16
_MAX_BITS = 63  # of integers that are shifted


def check_array(array: np.ndarray) -> np.ndarray:
    """Return an array (H, W, 3) or (H, W) of any type as (H, W, 3) uint8.

    Raises:
        UserError: it has another shape or type.
    """
    is_image = array.ndim == 2 or array.shape[2:] == (3,)
    if not is_image or not array.size or array.dtype.kind not in "buif":
        raise UserError(
            "expected an image as an array (H, W, 3) or (H, W) of uint8 in [0, 255], or of other "
            f"numbers, got {array.shape} of {array.dtype}"
        )
    array, _ = to_8_bits(array)
    return np.repeat(array[:, :, None], 3, axis=2) if array.ndim == 2 else array


def no_image(value: Any) -> TypeError:
    """Return the error for what is no image."""
    return TypeError(
        "expected an image as a path, a PIL image or an array (H, W, 3), or a list of them, got "
        f"{type(value).__name__}"
    )


def no_data_value(text: Any, dtype: np.dtype[Any]) -> Any:
    """Return the value of pixels that were not seen, of the type of an image.

    Args:
        text: of GDAL's tag; None and what is no number are taken.
        dtype: of the pixels, integers or floats.

    Returns:
        None where the text is no number, or none that the type holds.
    """
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    if dtype.kind == "f":
        return dtype.type(value)
    limits = np.iinfo(dtype)
    is_one = limits.min <= value <= limits.max and value.is_integer()
    return dtype.type(value) if is_one else None


def to_8_bits(
    values: np.ndarray, limits: tuple[float, float] | None = None, no_data: Any = None
) -> tuple[np.ndarray, str]:
    """Scale the brightness of pixels to 8 bits, by the range that the values are in.

    Integers keep the upper 8 of the 8, 10, 12, 14 or 16 bits in use, as Pillow does with colours of
    16 bits; floats are 0 to 1 or 0 to 255. What has negative values is stretched from its minimum
    to its maximum.

    Args:
        values: of any shape; bool, integers or floats.
        limits: the least and largest value of all where these are only some.
        no_data: the value of pixels that were not seen, which are black and outside of the range;
            None where all were.

    Returns:
        uint8 of the same shape, and what was assumed about the range, "" where nothing was.

    Raises:
        UserError: values of another type.
    """
    kind, size = values.dtype.kind, 8 * values.dtype.itemsize
    if values.dtype == np.uint8:
        return values, ""
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255), ""
    if kind not in "iuf":
        raise UserError(f"expected pixels that are integers or floats, got {values.dtype}")
    if kind == "f":
        values = np.where(np.isfinite(values), values, 0)  # no-data is black
    if limits is None:
        seen = values if no_data is None else values[values != no_data]
        low, high = seen.min(initial=0), seen.max(initial=0)
    else:
        low, high = limits
    if no_data is not None:
        values = np.where(values == no_data, values.dtype.type(low), values)
    if kind == "f" and low >= -0.1 and high <= 2:  # resampling overshoots a little
        return _round(values * 255), "floats are taken as 0 to 1"
    if low < 0:
        stretched = (values - np.float64(low)) * (255 / (np.float64(high) - low))
        return _round(stretched), "negative values: stretched from the minimum to the maximum"
    if kind == "f" and high <= 255:
        return _round(values), "floats are taken as 0 to 255"
    bits = next((depth for depth in _DEPTHS if high < 1 << depth), int(high).bit_length())
    if limits is None and 8 < bits < 16 and spread_over_16(values):
        bits = 16
    note = "" if bits == size else f"values of type {values.dtype} are taken as {bits} bits"
    if bits > _MAX_BITS:  # of floats
        return _round(values * (255 / high)), "large floats: stretched from 0 to the maximum"
    return (values.astype(np.int64) >> (bits - 8)).astype(np.uint8), note


def spread_over_16(values: np.ndarray) -> bool:
    """Tell whether values of 16 bits are 8 bits, each written twice; dark ones look like fewer."""
    is_16 = values.dtype.kind in "iu" and values.dtype.itemsize == 2
    return is_16 and not (values % 257).any()


def _round(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
