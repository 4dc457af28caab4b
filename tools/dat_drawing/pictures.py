"""Draw where the keys of a DAT layer were moved to, and which of them matter to one query."""

import cv2
import numpy as np
from dat_drawing.keys import LayerKeys
from torch import Tensor

_MIN_SIDE = 640  # of the longer side of a picture in pixels; small images are enlarged
_FINE = 4  # binary digits after the point in the coordinates that OpenCV takes
_GROUP_COLOURS = (
    (255, 140, 0),
    (0, 200, 255),
    (120, 255, 80),
    (255, 80, 200),
    (255, 240, 80),
    (150, 120, 255),
)
_WEAK, _STRONG = np.array([255, 220, 80.0]), np.array([255, 30, 0.0])  # yellow to red
_MIN_RADIUS, _MAX_RADIUS = 3.0, 12.0


def draw_offsets(image: np.ndarray, keys: LayerKeys) -> np.ndarray:
    """Draw a line from where each key would be, on a grid, to where it is sampled.

    Groups of heads move their keys separately and have colours of their own.

    Args:
        image: (H, W, 3), uint8, RGB.
        keys: of one layer.

    Returns:
        (sH, sW, 3), uint8, RGB, of the scale s that makes small images larger.
    """
    picture, scale = _enlarged(image, dim=0.55)
    start = _pixels(keys.references, scale)
    for group, places in enumerate(keys.places):
        colour = _GROUP_COLOURS[group % len(_GROUP_COLOURS)]
        for a, b in zip(start, _pixels(places, scale)):
            cv2.line(picture, a, b, colour, 1, cv2.LINE_AA, _FINE)
            cv2.circle(picture, b, 2 << _FINE, colour, -1, cv2.LINE_AA, _FINE)
    return _star(picture, keys, scale)


def draw_importance(image: np.ndarray, keys: LayerKeys, count: int = 100) -> np.ndarray:
    """Draw the keys with the most attention of the query, the heaviest largest and reddest.

    Args:
        image: (H, W, 3), uint8, RGB.
        keys: of one layer.
        count: keys that are drawn, of all groups together.

    Returns:
        (sH, sW, 3), uint8, RGB, of the scale s that makes small images larger.
    """
    picture, scale = _enlarged(image, dim=0.55)
    weights, order = keys.weights.flatten().sort()
    weights, order = weights[-count:], order[-count:]  # the light ones first
    spread = (weights[-1] - weights[0]).clamp(min=1e-12)
    places = _pixels(keys.places.flatten(0, 1)[order], scale)
    for place, strength in zip(places, ((weights - weights[0]) / spread).tolist()):
        radius = _MIN_RADIUS + (_MAX_RADIUS - _MIN_RADIUS) * strength
        colour = _WEAK + (_STRONG - _WEAK) * strength
        _blend_disc(picture, place, radius, colour.tolist(), 0.5 + 0.4 * strength)
    return _star(picture, keys, scale)


def _blend_disc(
    picture: np.ndarray,
    place: tuple[int, int],
    radius: float,
    colour: tuple[float, float, float],
    opacity: float,
) -> None:
    """Lay a disc of a radius in pixels over the picture, in place."""
    x, y = (max(0, (value >> _FINE) - round(radius) - 2) for value in place)
    side = 2 * round(radius) + 5
    part = picture[y : y + side, x : x + side]
    if not part.size:  # a key beside the image
        return
    above = part.copy()
    centre = place[0] - (x << _FINE), place[1] - (y << _FINE)
    cv2.circle(above, centre, round(radius * (1 << _FINE)), colour, -1, cv2.LINE_AA, _FINE)
    part[:] = cv2.addWeighted(above, opacity, part, 1 - opacity, 0)


def _enlarged(image: np.ndarray, dim: float) -> tuple[np.ndarray, float]:
    """Return the image, darker and large enough to draw on, and the scale."""
    scale = max(1.0, _MIN_SIDE / max(image.shape[:2]))
    height, width = (round(side * scale) for side in image.shape[:2])
    picture = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return (picture * dim).astype(np.uint8), scale


def _pixels(places: Tensor, scale: float) -> list[tuple[int, int]]:
    """Return OpenCV's coordinates of places (N, 2): pixel middles are whole, in fixed point."""
    fixed = ((places.double() * scale - 0.5) * (1 << _FINE)).round().long()
    return [(int(x), int(y)) for x, y in fixed]


def _star(picture: np.ndarray, keys: LayerKeys, scale: float) -> np.ndarray:
    """Mark the query."""
    ((x, y),) = _pixels(keys.query[None], scale)
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2, 6, 14) * (1 << _FINE)
    points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], -1)
    corners = [points.round().astype(np.int32)]
    cv2.fillPoly(picture, corners, (255, 0, 40), cv2.LINE_AA, _FINE)
    cv2.polylines(picture, corners, True, (255, 255, 255), 1, cv2.LINE_AA, _FINE)
    return picture
