"""Paint coloured regions over an image and write their names on them."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from detectron2.utils.visualizer import Visualizer
from PIL import Image, ImageDraw, ImageFont


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


class _Look(NamedTuple):
    """How images are painted.

    Attributes:
        opacity: of the colour inside of a region.
        neighbours: shape of a neighbourhood; pixels with a neighbour outside are the outline.
        beyond: whether neighbours beyond the image count as inside (1) or outside (0).
        min_short_side, max_long_side: in pixels; smaller images are enlarged, so
            that letters find room.
    """

    opacity: float
    neighbours: int
    beyond: int
    min_short_side: int
    max_long_side: int


_STILL = _Look(0.55, cv2.MORPH_RECT, 1, 384, 2048)
_QUICK = _Look(0.5, cv2.MORPH_CROSS, 0, 256, 1 << 30)
_GROUND = 0.2  # what remains of a colour's brightness behind the letters of quick pictures

_Name = tuple[str, tuple[float, float], np.ndarray]  # text, point (x, y), colour in 0..1


def paint(image: np.ndarray, regions: Iterable[Region], *, quick: bool = False) -> np.ndarray:
    """Tint regions over an image in their order, and give each an outline and its name.

    Small images are enlarged by a whole number, so that the smallest region can be seen.

    Args:
        image: (H, W, 3), uint8, RGB.
        regions: those without a pixel are left out.
        quick: take milliseconds, for video, where matplotlib's letters would take most of the time
            (10 against 130 ms for 3 regions in 720 x 1280 pixels): plainer letters, other outlines.

    Returns:
        (nH, nW, 3), uint8, RGB, of the enlargement n.

    Raises:
        ValueError: the image is no such array, or the mask of a region has another size.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image: expected (H, W, 3) uint8, got {image.shape} of {image.dtype}")
    look = _QUICK if quick else _STILL
    times = _enlargement(*image.shape[:2], look)
    picture = _enlarge(image, times)
    names: list[_Name] = []
    for mask, colour, name in regions:
        if mask.shape != image.shape[:2]:
            raise ValueError(
                f"{name}: expected a mask of the image's size {image.shape[:2]} (height, width), "
                f"got {mask.shape}"
            )
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        if not width:
            continue
        left, top, right, bottom = max(0, left - 1), max(0, top - 1), left + width, top + height
        part = mask[top : bottom + 1, left : right + 1].view(np.uint8)  # with its neighbours
        below = picture[top * times : (bottom + 1) * times, left * times : (right + 1) * times]
        _tint(below, _enlarge(part, times), np.asarray(colour) * 255, look)
        x, y = _innermost(part)
        names.append((name, ((left + x + 0.5) * times, (top + y + 0.5) * times), colour))
    if not names:
        return picture
    return _write_quickly(picture, names) if quick else _write(picture, names)


def _enlargement(height: int, width: int, look: _Look) -> int:
    wanted = -(-look.min_short_side // min(height, width))
    return max(1, min(wanted, look.max_long_side // max(height, width)))


def _enlarge(pixels: np.ndarray, times: int) -> np.ndarray:
    """Return a copy (nH, nW, ...) of (H, W, ...)."""
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _tint(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray, look: _Look) -> None:
    """Mix a colour (0..255) into the pixels of a mask, in place; its outline gets it unmixed."""
    table = (1 - look.opacity) * np.arange(256)[:, None] + look.opacity * colour
    mixed = cv2.LUT(picture, table.round().astype(np.uint8)[None])
    cv2.copyTo(mixed, mask, picture)
    shape = cv2.getStructuringElement(look.neighbours, (3, 3))
    inside = cv2.erode(mask, shape, borderType=cv2.BORDER_CONSTANT, borderValue=look.beyond)
    picture[mask != inside] = colour.round().astype(np.uint8)


def _innermost(mask: np.ndarray) -> tuple[int, int]:
    """Return the pixel (x, y) of a mask that is farthest from all outside it."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    _, _, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(padded, cv2.DIST_L2, 3))
    return x - 1, y - 1


def _write(picture: np.ndarray, names: list[_Name]) -> np.ndarray:
    """Write names below points, each in a colour."""
    visualizer = Visualizer(picture)
    for name, point, colour in names:
        visualizer.draw_text(name, point, color=tuple(colour))
    return visualizer.get_output().get_image()


def _write_quickly(picture: np.ndarray, names: list[_Name]) -> np.ndarray:
    """Write names in white around points, each on a dark ground of its colour."""
    page = Image.fromarray(picture)
    draw = ImageDraw.Draw(page)
    font = _font(int(np.clip(min(picture.shape[:2]) / 28, 11, 32)))
    for name, (x, y), colour in names:
        left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
        x = int(np.clip(int(x) - right / 2, 2, max(2, page.width - right - 2)))
        y = int(np.clip(int(y) - bottom / 2, 2, max(2, page.height - bottom - 2)))
        ground = tuple((np.asarray(colour) * 255 * _GROUND).astype(int).tolist())
        draw.rectangle((x + left - 2, y + top - 2, x + right + 1, y + bottom + 1), fill=ground)
        draw.text((x, y), name, font=font, fill=(255, 255, 255))
    return np.asarray(page)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
