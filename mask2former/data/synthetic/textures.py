"""Procedural textures of the stuff classes: sky, grass, water and brick walls.

Every texture is a function ``(rng, height, width, unit) -> (H, W, 3)`` float32 RGB in 0..1, where
``unit`` is the length in pixels that is 1/128 of an image's side, so that textures scale with it.
The palettes overlap on purpose: structure tells the classes apart, colour alone does not.
"""

from collections.abc import Callable

import cv2
import numpy as np

Array = np.ndarray

# Each pair is (far or upper, near or lower) colour.
_SKIES = (
    ((64, 134, 214), (190, 222, 245)),
    ((96, 72, 140), (250, 170, 120)),
    ((120, 132, 148), (206, 212, 218)),
    ((26, 60, 110), (120, 180, 190)),
    ((232, 150, 130), (252, 226, 170)),
)
_GRASSES = (
    ((88, 132, 52), (120, 168, 64)),
    ((150, 140, 62), (196, 178, 92)),
    ((46, 104, 74), (70, 142, 96)),
    ((132, 84, 62), (178, 116, 72)),
)
_WATERS = (
    ((60, 120, 176), (24, 72, 128)),
    ((70, 160, 150), (22, 96, 104)),
    ((220, 150, 140), (96, 80, 130)),
    ((110, 124, 116), (60, 78, 78)),
)
_BRICKS = (
    ((168, 82, 62), (206, 196, 184)),
    ((204, 172, 120), (150, 132, 104)),
    ((128, 138, 152), (84, 90, 100)),
    ((216, 210, 202), (150, 146, 144)),
    ((120, 96, 128), (196, 188, 198)),
)


def noise(rng: np.random.Generator, height: int, width: int, cell: tuple[float, float]) -> Array:
    """Return smooth noise of mean 0 and standard deviation near 1, (H, W) float32.

    Args:
        cell: height and width in pixels of a bump.
    """
    rows, cols = (max(int(np.ceil(n / c)), 1) + 3 for n, c in zip((height, width), cell))
    grid = rng.standard_normal((rows, cols), dtype=np.float32)
    size = (max(round(cols * cell[1]), width), max(round(rows * cell[0]), height))
    return cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC)[:height, :width]


def _fractal(rng: np.random.Generator, height: int, width: int, cell: float) -> Array:
    """Return four octaves of ``noise``, each half as large and half as strong as the one before."""
    octaves = (noise(rng, height, width, (cell / 2**i,) * 2) / 2**i for i in range(4))
    return sum(octaves, np.zeros((height, width), np.float32)) / 1.15


def _pick(rng: np.random.Generator, palettes: tuple) -> tuple[Array, Array]:
    """Return one pair of colours, a little off the given ones; float32 RGB in 0..1."""
    pair = np.asarray(palettes[rng.integers(len(palettes))], np.float32) / 255
    shift = rng.normal(0, 0.03, (1, 3)) + rng.normal(0, 0.03)
    first, second = np.clip(pair + shift, 0, 1).astype(np.float32)
    return first, second


def _mix(first: Array, second: Array, fraction: Array) -> Array:
    """Go from the colour ``first`` to ``second`` as ``fraction`` (H, W) goes from 0 to 1."""
    return first + (second - first) * fraction[..., None]


def _smoothstep(low: float, high: float, x: Array) -> Array:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def sky(rng: np.random.Generator, height: int, width: int, unit: float) -> Array:
    """Draw a vertical gradient with flat-bottomed drifts of cloud."""
    upper, lower = _pick(rng, _SKIES)
    y = np.linspace(0, 1.3, height, dtype=np.float32)[:, None]
    image = _mix(upper, lower, np.clip(y, 0, 1))
    stretched = _fractal(rng, height * 2, width, 30 * unit)[::2]
    clouds = _smoothstep(0.1, 1.6, stretched + rng.uniform(-0.7, 0.4))
    return _mix(image, np.float32(0.55) * lower + np.float32(0.45), clouds * rng.uniform(0.5, 0.95))


def grass(rng: np.random.Generator, height: int, width: int, unit: float) -> Array:
    """Upright blades over broad patches, with a few blossoms."""
    first, second = _pick(rng, _GRASSES)
    patches = _smoothstep(-1.5, 1.5, _fractal(rng, height, width, 28 * unit))
    blades = noise(rng, height, width, (4.5 * unit, 1.1 * unit))
    blades += noise(rng, height, width, (9 * unit, 2.2 * unit)) * np.float32(0.7)
    image = _mix(first, second, patches) * (1 + np.float32(0.16) * blades[..., None])
    count = rng.integers(0, 1 + int(height * width / (220 * unit**2)))
    blossoms = _dots(rng, height, width, count, 0.8 * unit)
    return _mix(image, np.float32(rng.uniform(0.75, 1, 3)), blossoms)


def _dots(rng: np.random.Generator, height: int, width: int, count: int, radius: float) -> Array:
    """Return the coverage in 0..1 of ``count`` small discs at random places, (H, W) float32."""
    canvas = np.zeros((height, width), np.uint8)  # OpenCV smooths the edges in 8 bits only
    for x, y in rng.uniform(0, 1, (count, 2)) * (width, height):
        centre = (round(x * 16), round(y * 16))  # 4 bits after the point
        cv2.circle(canvas, centre, round(radius * 16), 255, -1, cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255


def water(rng: np.random.Generator, height: int, width: int, unit: float) -> Array:
    """Ripples that grow longer and further apart towards the viewer."""
    far, near = _pick(rng, _WATERS)
    depth = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    drift = noise(rng, height, width, (7 * unit, 26 * unit))
    wave = np.sqrt(depth + np.float32(0.05)) * np.float32(rng.uniform(80, 130))
    ripples = np.sin(wave * np.float32(height / (128 * unit)) ** 0.5 + drift * np.float32(1.6))
    ripples = ripples * (1 + noise(rng, height, width, (3 * unit, 14 * unit)) * np.float32(0.5))
    image = _mix(far, near, depth) + np.float32(0.07) * ripples[..., None]
    glints = _smoothstep(1.5, 2.3, ripples + noise(rng, height, width, (1.5 * unit, 5 * unit)))
    return _mix(image, np.ones(3, np.float32), glints * np.float32(0.7))


def wall(rng: np.random.Generator, height: int, width: int, unit: float) -> Array:
    """Bricks in running bond, each in a tone of its own, with mortar and grain."""
    brick, mortar = _pick(rng, _BRICKS)
    course = unit * rng.uniform(6.5, 10.5)
    length = course * rng.uniform(1.9, 2.6)
    joint = unit * rng.uniform(0.9, 1.4)
    wobble = noise(rng, height, width, (18 * unit, 18 * unit)) * np.float32(0.35 * unit)
    y = np.arange(height, dtype=np.float32)[:, None] + wobble + np.float32(rng.uniform(0, course))
    row = np.floor(y / course).astype(np.int32)
    shift = (row % 2).astype(np.float32) * np.float32(length / 2)
    x = np.arange(width, dtype=np.float32)[None] + shift + wobble
    column = np.floor(x / length).astype(np.int32)
    tones = rng.normal(1, 0.11, 1009).astype(np.float32)
    tone = tones[(row * 37 + column * 101) % 1009]
    grain = noise(rng, height, width, (1.3 * unit, 1.3 * unit)) * np.float32(0.05)
    # Distance in pixels to the nearest joint, above and beside.
    edge = np.minimum(_to_multiple(y, course), _to_multiple(x, length)) - np.float32(joint / 2)
    face = np.clip(edge + np.float32(0.5), 0, 1)
    lit = brick * (tone + grain)[..., None]
    return _mix(mortar * (1 + grain[..., None]), lit, face)


def _to_multiple(x: Array, step: float) -> Array:
    """Return the distance from ``x`` to the nearest multiple of ``step``."""
    rest = np.mod(x, np.float32(step))
    return np.minimum(rest, np.float32(step) - rest)


TEXTURES: dict[str, Callable[[np.random.Generator, int, int, float], Array]] = {
    texture.__name__: texture for texture in (sky, grass, water, wall)
}
