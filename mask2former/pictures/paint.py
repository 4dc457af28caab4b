"""Paints coloured regions over an image and writes their names on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from detectron2.utils.visualizer import Visualizer

# Small images are enlarged, since labels have a least size: limits of the sides in pixels.
_LEAST_SHORT_SIDE, _MOST_LONG_SIDE = 384, 2048
_OPACITY = 0.55


class Region(NamedTuple):
    """What is painted in one colour.

    Attributes:
        mask: (H, W), bool.
        colour: (3,), RGB in 0..1.
        name: written on it.
    """

    mask: np.ndarray
    colour: np.ndarray
    name: str


def paint(image: np.ndarray, regions: Iterable[Region]) -> np.ndarray:
    """Tint regions over an image in their order, and give each an outline and its name.

    Small images are enlarged by a whole number, so that the smallest region can be seen.

    Args:
        image: (H, W, 3), uint8, RGB.
        regions: those without a pixel are left out.

    Returns:
        (nH, nW, 3), uint8, RGB, of the enlargement n.

    Raises:
        ValueError: the image is no such array, or the mask of a region has another size.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image: expected (H, W, 3) uint8, got {image.shape} of {image.dtype}")
    times = _enlargement(*image.shape[:2])
    picture = _enlarge(image, times)
    names = []
    for mask, colour, name in regions:
        if mask.shape != image.shape[:2]:
            raise ValueError(
                f"{name}: expected a mask of the image's size {image.shape[:2]} (height, width), "
                f"got {mask.shape}"
            )
        if mask.any():
            _tint(picture, _enlarge(mask, times), np.asarray(colour) * 255)
            x, y = _innermost(mask)
            names.append((name, ((x + 0.5) * times, (y + 0.5) * times), colour))
    return _write(picture, names)


def _enlargement(height: int, width: int) -> int:
    wanted = -(-_LEAST_SHORT_SIDE // min(height, width))
    return max(1, min(wanted, _MOST_LONG_SIDE // max(height, width)))


def _enlarge(pixels: np.ndarray, times: int) -> np.ndarray:
    """A copy (nH, nW, ...) of (H, W, ...)."""
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _tint(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    """Mix a colour (0..255) into the pixels of a mask, whose border gets it unmixed."""
    mixed = (1 - _OPACITY) * picture[mask] + _OPACITY * colour
    picture[mask] = mixed.round().astype(np.uint8)
    inside = cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)
    picture[mask & ~inside] = colour.round().astype(np.uint8)


def _innermost(mask: np.ndarray) -> tuple[int, int]:
    """The pixel (x, y) of a mask that is farthest from all outside it."""
    depth = cv2.distanceTransform(np.pad(mask, 1).view(np.uint8), cv2.DIST_L2, 3)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return int(x) - 1, int(y) - 1


def _write(
    picture: np.ndarray, names: list[tuple[str, tuple[float, float], np.ndarray]]
) -> np.ndarray:
    """Write names below points (x, y), each in a colour."""
    if not names:
        return picture
    visualizer = Visualizer(picture)
    for name, point, colour in names:
        visualizer.draw_text(name, point, color=tuple(colour))
    return visualizer.get_output().get_image()
