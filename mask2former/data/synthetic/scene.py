"""Compose scenes: wavy regions of stuff behind, things in painter's order before them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .textures import TEXTURES, noise
from .things import Footprint, Pose, Thing, footprint, paint, random_thing

Array = np.ndarray

_MAX_THINGS = 5
_FRACTION_WITHOUT_THINGS = 0.05
# A thing that shows less than this is left out: its class could not be recognised.
_MIN_VISIBLE_FRACTION = 0.4
_MIN_VISIBLE_PIXELS = 20  # of an image of 128 x 128


@dataclass(frozen=True)
class Backdrop:
    """Regions of stuff: ``image`` (H, W, 3) RGB in 0..1, ``labels`` (H, W) of ``names``."""

    image: Array
    labels: Array
    names: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """Everything that a picture shows; later things hide earlier ones."""

    backdrop: Backdrop
    things: tuple[Thing, ...]
    poses: tuple[Pose, ...]
    light: Array  # (x, y) towards the light
    grain: float  # standard deviation of the pixel noise, image range 0..1


def random_backdrop(rng: np.random.Generator, height: int, width: int, unit: float) -> Backdrop:
    """Draw 2 to 4 regions: bands one above the other, the sky on top, one of them often split."""
    others = [name for name in TEXTURES if name != "sky"]
    names = [str(name) for name in rng.permutation(others)[: rng.integers(1, 4)]]
    if len(names) == 1 or rng.random() < 0.8:
        names.insert(0, "sky")
    names = names[: 3 if rng.random() < 0.7 else 4]
    cuts = np.cumsum(rng.dirichlet(np.full(len(names), 6.0)))[:-1] * height
    image = np.zeros((height, width, 3), np.float32)
    labels = np.zeros((height, width), np.uint8)
    below = np.ones((height, width), np.float32)
    for index, name in enumerate(names):
        if index > 0:
            below = _cover_beyond(cuts[index - 1] + _wave(rng, width, unit), height).T
        _lay(image, labels, rng, name, index, below, unit)
    if rng.random() < 0.4:
        _split(image, labels, rng, names, below, unit)
    return Backdrop(image, labels, tuple(names))


def _cover_beyond(border: Array, length: int) -> Array:
    """Return the fraction of each pixel in a line beyond its border, (len(border), length)."""
    return np.clip(np.arange(1, length + 1) - border[:, None], 0, 1).astype(np.float32)


def _wave(rng: np.random.Generator, length: int, unit: float) -> Array:
    """Return offsets in pixels of a tilted, wavy border, (length,)."""
    tilt = np.linspace(-1, 1, length) * rng.normal(0, 0.04) * length
    bumps = noise(rng, 1, length, (1, rng.uniform(14, 50) * unit))[0]
    return tilt + bumps * rng.uniform(0.5, 5) * unit


def _lay(
    image: Array,
    labels: Array,
    rng: np.random.Generator,
    name: str,
    index: int,
    cover: Array,
    unit: float,
) -> None:
    """Lay a texture over the part of the image that ``cover`` (H, W) marks, in place."""
    rows = np.flatnonzero(cover.any(axis=1))
    if rows.size == 0:
        return
    part = slice(rows[0], rows[-1] + 1)
    texture = TEXTURES[name](rng, part.stop - part.start, image.shape[1], unit)
    image[part] += (texture - image[part]) * cover[part, :, None]
    labels[cover >= 0.5] = index


def _split(
    image: Array,
    labels: Array,
    rng: np.random.Generator,
    names: list[str],
    band: Array,
    unit: float,
) -> None:
    """Give one side of the lowest band, marked by ``band`` (H, W), to another class, in place."""
    height, width = labels.shape
    name = str(rng.choice([name for name in TEXTURES if name not in ("sky", names[-1])]))
    if name not in names:
        names.append(name)
    side = _cover_beyond(rng.uniform(0.25, 0.75) * width + _wave(rng, height, unit), width)
    side = 1 - side if rng.random() < 0.5 else side
    _lay(image, labels, rng, name, names.index(name), side * band, unit)


def random_scene(rng: np.random.Generator, size: int) -> Scene:
    """Draw a scene of ``size`` x ``size`` pixels in which every thing can be recognised."""
    unit = size / 128
    backdrop = random_backdrop(rng, size, size, unit)
    empty = rng.random() < _FRACTION_WITHOUT_THINGS
    things, poses = [], []
    for _ in range(0 if empty else rng.integers(1, _MAX_THINGS + 1)):
        things.append(random_thing(rng, unit))
        poses.append(_random_pose(rng, size, things, poses))
    light = random_light(rng)
    visible, whole = count_pixels(things, poses, size)
    limits = np.maximum(_MIN_VISIBLE_FRACTION * whole, _MIN_VISIBLE_PIXELS * unit**2)
    keep = np.flatnonzero(visible >= limits)
    return Scene(
        backdrop=backdrop,
        things=tuple(things[i] for i in keep),
        poses=tuple(poses[i] for i in keep),
        light=light,
        grain=rng.uniform(0.008, 0.035),
    )


def _random_pose(
    rng: np.random.Generator, size: int, things: list[Thing], poses: list[Pose]
) -> Pose:
    """Draw a pose for the last thing: often beside another, the border cutting some.

    The first one stands further in, as it has to be visible.
    """
    angle = rng.uniform(-np.pi, np.pi)
    if not poses:
        x, y = rng.uniform(0.15, 0.85, 2) * size
    elif rng.random() < 0.4:
        other = int(rng.integers(len(poses)))
        reach = (things[other].radius + things[-1].radius) * rng.uniform(0.5, 1.0)
        direction = rng.uniform(-np.pi, np.pi)
        x = poses[other].x + reach * np.cos(direction)
        y = poses[other].y + reach * np.sin(direction)
    else:
        x, y = rng.uniform(-0.03, 1.03, 2) * size
    return Pose(float(x), float(y), float(angle))


def random_light(rng: np.random.Generator) -> Array:
    """Draw the direction (x, y) towards the light, which comes from above."""
    angle = rng.uniform(-np.pi, 0)
    return np.float32([np.cos(angle), np.sin(angle)])


def count_pixels(things: Sequence[Thing], poses: Sequence[Pose], size: int) -> tuple[Array, Array]:
    """Return how many pixels of each thing an image shows, and how many the whole thing has."""
    prints = [footprint(thing, pose, size, size) for thing, pose in zip(things, poses)]
    owner = _find_owners(prints, (size, size))
    visible = np.bincount(owner.ravel(), minlength=len(things) + 1)[1:]
    return visible, np.array([where.area for where in prints])


def _find_owners(prints: list[Footprint], shape: tuple[int, int]) -> Array:
    """Return which thing each pixel shows, (H, W) uint8: 0 for none, i + 1 for thing i."""
    owner = np.zeros(shape, np.uint8)
    for index, where in enumerate(prints, start=1):
        owner[where.rows, where.cols][where.mask] = index
    return owner


def render(scene: Scene, rng: np.random.Generator) -> tuple[Array, Array]:
    """Paint a scene.

    Returns:
        The picture (H, W, 3) uint8 RGB, and (H, W) uint8 that says which thing each pixel shows: 0
        for the backdrop, i + 1 for thing i. A pixel belongs to the last thing that covers half of
        it or more.
    """
    image = scene.backdrop.image.copy()
    height, width = image.shape[:2]
    prints = [footprint(t, p, height, width) for t, p in zip(scene.things, scene.poses)]
    for thing, pose, where in zip(scene.things, scene.poses, prints):
        paint(image, thing, pose, where, scene.light)
    image *= _lamp(height, width, scene.light)
    image += rng.standard_normal(image.shape, np.float32) * np.float32(scene.grain)
    pixels = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    return pixels, _find_owners(prints, (height, width))


def _lamp(height: int, width: int, light: Array) -> Array:
    """Return a factor of light, larger on the side that it comes from, (H, W, 1)."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    return (1 + np.float32(0.09) * (x * light[0] + y * light[1]))[..., None]
