"""Paints coloured regions over the frames of a video, in milliseconds a frame.

`paint` takes up to a second for a picture, most of it for letters drawn by matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .paint import Region

__all__ = ["paint_frame"]

_LEAST_SHORT_SIDE = 256  # in pixels; smaller frames are enlarged, for the sake of the letters
_OPACITY = 0.5
_BORDER = 0.2  # what remains of a colour's brightness behind letters


def paint_frame(image: np.ndarray, regions: Iterable[Region]) -> np.ndarray:
    """Tint regions in their order over a frame, and give each an outline and its name.

    Args:
        image: (H, W, 3), uint8, RGB.
        regions: with masks (H, W); those without a pixel are left out.

    Returns:
        (nH, nW, 3), uint8, RGB, enlarged n times where the frame is small.
    """
    times = max(1, -(-_LEAST_SHORT_SIDE // min(image.shape[:2])))
    picture = image.repeat(times, axis=0).repeat(times, axis=1)
    names = []
    for mask, colour, name in regions:
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        if not width:
            continue
        part = mask[y : y + height, x : x + width].view(np.uint8)
        part = part.repeat(times, axis=0).repeat(times, axis=1)
        colour = np.asarray(colour) * 255
        corner = (x * times, y * times)
        _tint(picture[corner[1] :, corner[0] :][: part.shape[0], : part.shape[1]], part, colour)
        names.append((name, _innermost(part, corner), colour))
    return _write(picture, names)


def _tint(picture: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    """Mix a colour (0..255) into the pixels of a mask, whose border gets it unmixed."""
    mixed = cv2.addWeighted(
        picture, 1 - _OPACITY, np.full_like(picture, colour.round()), _OPACITY, 0
    )
    cv2.copyTo(mixed, mask, picture)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        picture[outline[:, 0, 1], outline[:, 0, 0]] = colour.round()


def _innermost(mask: np.ndarray, corner: tuple[int, int]) -> tuple[int, int]:
    """The pixel (x, y) of a mask that is farthest from all outside it; `corner` is its origin."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    _, _, _, (x, y) = cv2.minMaxLoc(cv2.distanceTransform(padded, cv2.DIST_L2, 3))
    return corner[0] + x - 1, corner[1] + y - 1


def _write(picture: np.ndarray, names: list[tuple[str, tuple[int, int], np.ndarray]]) -> np.ndarray:
    """Write names in white around points (x, y), each on a dark ground of its colour."""
    if not names:
        return picture
    page = Image.fromarray(picture)
    draw = ImageDraw.Draw(page)
    font = _font(int(np.clip(min(picture.shape[:2]) / 28, 11, 32)))
    for name, (x, y), colour in names:
        left, top, right, bottom = draw.textbbox((0, 0), name, font=font)
        x = int(np.clip(x - right / 2, 2, max(2, page.width - right - 2)))
        y = int(np.clip(y - bottom / 2, 2, max(2, page.height - bottom - 2)))
        ground = tuple((colour * _BORDER).astype(int).tolist())
        draw.rectangle((x + left - 2, y + top - 2, x + right + 1, y + bottom + 1), fill=ground)
        draw.text((x, y), name, font=font, fill=(255, 255, 255))
    return np.asarray(page)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
