"""The thing classes of the shapes dataset: their outlines, their looks, and how one is painted.

A thing is painted in two steps, because the scene needs to know who is visible before it decides
what to paint: ``footprint`` gives the fraction of every pixel that the thing covers, and ``paint``
puts colour there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray

_SUPERSAMPLING = 4  # samples a pixel, in each direction
_FRACTION_BITS = 6  # of the coordinates that OpenCV takes as integers


def _corners(count: int, radius: Array | float) -> Array:
    """Return the corners of a regular polygon, or a star of several radii, from the top on."""
    angles = np.arange(count) * 2 * np.pi / count - np.pi / 2
    return np.stack([np.cos(angles) * radius, np.sin(angles) * radius], axis=-1)


def _cross(arm: float) -> Array:
    quarter = np.array([[arm, arm], [arm, 1.0], [-arm, 1.0]])
    turns = (np.array([[x, -y], [y, x]]) for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1)))
    return np.concatenate([quarter @ turn.T for turn in turns])


# Contours around the origin with a radius near 1, x to the right and y down, filled by the even-odd
# rule, so that the second contour of a ring is its hole.
OUTLINES: dict[str, tuple[Array, ...]] = {
    "disc": (_corners(72, 0.95),),
    "square": (_corners(4, 1.2),),
    "triangle": (_corners(3, 1.25),),
    "star": (_corners(10, np.tile([1.15, 0.52], 5)),),
    "ring": (_corners(72, 1.0), _corners(72, 0.55)),
    "cross": (_cross(0.34),),
}

# In coordinates that turn with the thing; k is in radians a pixel. Above 0 the accent colour shows.
_PATTERNS: dict[str, Callable[[Array, Array, float], Array]] = {
    "plain": lambda u, v, k: np.zeros_like(u),
    "stripes": lambda u, v, k: np.sin(u * k),
    "rings": lambda u, v, k: np.sin(np.hypot(u, v) * k),
    "checks": lambda u, v, k: np.sin(u * k) * np.sin(v * k) * 1.5,
}


@dataclass(frozen=True)
class Thing:
    """What does not change while a thing moves.

    Args:
        kind: a key of ``OUTLINES``.
        radius: in pixels.
        aspect: width over height, before rotation.
        colour, accent, edge: RGB in 0..1 of the body, its pattern and its outline.
        pattern: a key of ``_PATTERNS``; ``period`` is its wavelength in radii.
        edge_width: of the outline, in pixels.
    """

    kind: str
    radius: float
    aspect: float
    colour: tuple[float, float, float]
    accent: tuple[float, float, float]
    edge: tuple[float, float, float]
    pattern: str
    period: float
    edge_width: float


@dataclass(frozen=True)
class Pose:
    """Where a thing is: centre in pixels, angle in radians, and a factor on its radius."""

    x: float
    y: float
    angle: float
    scale: float = 1.0


@dataclass(frozen=True)
class Footprint:
    """The part of the image that a thing touches.

    ``rows`` and ``cols`` cut out the window; ``cover`` and ``edge`` (h, w) float32 say which
    fraction of each of its pixels the thing and its outline cover; ``area`` is the number of
    pixels that the thing would have if nothing cut or hid it.
    """

    rows: slice
    cols: slice
    cover: Array
    edge: Array
    area: float

    @property
    def mask(self) -> Array:
        """Return the pixels that the thing covers by half at least, (h, w) bool."""
        return self.cover >= 0.5


def random_thing(rng: np.random.Generator, unit: float) -> Thing:
    """Draw a thing of any class, with a look that says nothing about the class."""
    hue, saturation, value = rng.uniform(0, 360), rng.uniform(0.35, 0.9), rng.uniform(0.55, 1.0)
    other = (hue + rng.choice([0, 30, 180, 210])) % 360
    contrast = 0.55 if value > 0.75 else 1.6
    radius = np.exp(rng.uniform(np.log(14), np.log(32))) * unit
    return Thing(
        kind=str(rng.choice(list(OUTLINES))),
        radius=radius,
        aspect=float(np.exp(rng.normal(0, 0.1))),
        colour=_hsv(hue, saturation, value),
        accent=_hsv(other, saturation, min(value * contrast, 1.0)),
        edge=_hsv(hue, saturation, value * rng.choice([0.35, 0.6, 1.0])),
        pattern=str(rng.choice(list(_PATTERNS), p=(0.46, 0.22, 0.14, 0.18))),
        period=rng.uniform(0.45, 0.9),
        edge_width=max(0.07 * radius, 0.8 * unit) * rng.uniform(0.7, 1.4),
    )


def _hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    pixel = np.array([[[hue, saturation, value]]], np.float32)
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def footprint(thing: Thing, pose: Pose, height: int, width: int) -> Footprint:
    """Work out which pixels of an image of (H, W) the thing covers; the window may be empty."""
    contours = [_place(contour, thing, pose) for contour in OUTLINES[thing.kind]]
    low, high = contours[0].min(axis=0) - 2, contours[0].max(axis=0) + 2
    left, top = (int(np.floor(c)) for c in low)
    right, bottom = (int(np.ceil(c)) for c in high)
    shape = ((bottom - top) * _SUPERSAMPLING, (right - left) * _SUPERSAMPLING)
    fixed = [_fixed_point(contour - (left, top)) for contour in contours]
    body, line = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    cv2.fillPoly(body, fixed, 255, shift=_FRACTION_BITS)
    # OpenCV fills every sample that the contour touches; on average half of it lies inside.
    cv2.polylines(body, fixed, True, 128, 1, shift=_FRACTION_BITS)
    # Half of the line falls outside of the body and is cut away.
    thickness = max(round(2 * thing.edge_width * pose.scale * _SUPERSAMPLING), 1)
    cv2.polylines(line, fixed, True, 255, thickness, shift=_FRACTION_BITS)
    rows = slice(min(max(top, 0), height), max(min(bottom, height), 0))
    cols = slice(min(max(left, 0), width), max(min(right, width), 0))
    inside = np.s_[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    cover, edge = (_shrink(sample) for sample in (body, line & body))
    return Footprint(rows, cols, cover[inside], edge[inside], float((cover >= 0.5).sum()))


def _place(contour: Array, thing: Thing, pose: Pose) -> Array:
    """Return the contour in pixels of the image, (V, 2) x, y."""
    stretch = np.sqrt(thing.aspect)
    scaled = contour * (thing.radius * pose.scale) * (stretch, 1 / stretch)
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    return scaled @ np.array([[cos, sin], [-sin, cos]]) + (pose.x, pose.y)


def _fixed_point(contour: Array) -> Array:
    # OpenCV counts from the centre of the first sample, we from its corner.
    samples = contour * _SUPERSAMPLING - 0.5
    return np.round(samples * (1 << _FRACTION_BITS)).astype(np.int32)


def _shrink(samples: Array) -> Array:
    """Return the mean of the samples of every pixel, in 0..1."""
    size = (samples.shape[1] // _SUPERSAMPLING, samples.shape[0] // _SUPERSAMPLING)
    return cv2.resize(samples.astype(np.float32), size, interpolation=cv2.INTER_AREA) / 255


def paint(image: Array, thing: Thing, pose: Pose, where: Footprint, light: Array) -> None:
    """Paint a thing into ``image`` (H, W, 3), in place, with the shadow that it throws.

    Args:
        light: (x, y) direction towards the light.
    """
    if where.cover.size == 0:
        return
    radius = thing.radius * pose.scale
    _shade_ground(image, radius, where, light)
    y, x = np.mgrid[where.rows, where.cols].astype(np.float32) + np.float32(0.5)
    x -= np.float32(pose.x)
    y -= np.float32(pose.y)
    cos, sin = np.float32(np.cos(pose.angle)), np.float32(np.sin(pose.angle))
    wave = np.float32(thing.period * radius)  # pixels
    pattern = _PATTERNS[thing.pattern](x * cos + y * sin, y * cos - x * sin, 2 * np.pi / wave)
    accent = np.clip(pattern * (wave / 6), 0, 1)
    body, second, edge = (np.float32(c) for c in (thing.colour, thing.accent, thing.edge))
    colour = body + (second - body) * accent[..., None]
    towards_light = (x * light[0] + y * light[1]) / np.float32(radius)
    tone = 1 + np.float32(0.22) * towards_light + _relief(where.cover, radius, light)
    colour = colour * tone[..., None]
    colour += (edge - colour) * where.edge[..., None]
    window = image[where.rows, where.cols]
    window += (colour - window) * where.cover[..., None]


def _relief(cover: Array, radius: float, light: Array) -> Array:
    """Brighten the rims that face the light and darken the others, (h, w)."""
    soft = cv2.GaussianBlur(cover, (0, 0), max(radius * 0.12, 0.6), borderType=cv2.BORDER_REPLICATE)
    dx, dy = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    return -(dx * light[0] + dy * light[1]) * np.float32(radius * 0.012)


def _shade_ground(image: Array, radius: float, where: Footprint, light: Array) -> None:
    """Darken what lies behind a thing, on the side away from the light."""
    reach = int(np.ceil(radius * 0.4)) + 1
    top, left = max(where.rows.start - reach, 0), max(where.cols.start - reach, 0)
    window = image[top : where.rows.stop + reach, left : where.cols.stop + reach]
    shift = np.float32([[1, 0, where.cols.start - left], [0, 1, where.rows.start - top]])
    shift[:, 2] -= light * np.float32(radius * 0.16)
    size = (window.shape[1], window.shape[0])
    shadow = cv2.warpAffine(where.cover, shift, size)
    shadow = cv2.GaussianBlur(shadow, (0, 0), max(radius * 0.09, 0.6))
    window *= 1 - np.float32(0.38) * shadow[..., None]
