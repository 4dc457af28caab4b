"""Scenes that move: things that swing, turn and grow before a backdrop that drifts."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from .scene import Backdrop, Scene, count_pixels, random_backdrop, random_light
from .things import Pose, Thing, random_thing

_MAX_THINGS = 6
_FRACTION_OF_TRAVELLERS = 0.45  # things that leave the image and come back
_MAX_SPEED = 7.0  # pixels a frame, of an image of 128 x 128
# A thing that cannot be recognised in this many frames is left out of the clip.
_MIN_FRAMES = 3
_MIN_VISIBLE_FRACTION = 0.25


@dataclass(frozen=True)
class Swing:
    """A coordinate that swings around ``centre`` by ``reach`` pixels; ``period`` is in frames."""

    centre: float
    reach: float
    period: float
    phase: float  # radians

    def at(self, frame: int) -> float:
        """Return the coordinate in a frame, counted from 0, in pixels."""
        return self.centre + self.reach * np.sin(2 * np.pi * frame / self.period + self.phase)


@dataclass(frozen=True)
class Motion:
    """How a thing moves.

    Args:
        x, y: of its centre.
        angle, spin: radians, and radians a frame.
        pulse: how far the scale goes from 1 and back in every swing of x.
    """

    x: Swing
    y: Swing
    angle: float = 0.0
    spin: float = 0.0
    pulse: float = 0.0

    def at(self, frame: int) -> Pose:
        """Return where the thing is in a frame, counted from 0, and how it is turned and scaled."""
        scale = 1 + self.pulse * np.sin(2 * np.pi * frame / self.x.period)
        x, y = float(self.x.at(frame)), float(self.y.at(frame))
        return Pose(x, y, self.angle + self.spin * frame, float(scale))


@dataclass(frozen=True)
class Clip:
    """A scene in motion; later things hide earlier ones.

    ``backdrop`` is larger than the frames by a margin, in which they drift.
    """

    backdrop: Backdrop
    things: tuple[Thing, ...]
    motions: tuple[Motion, ...]
    drift: Motion
    light: np.ndarray
    grain: float
    size: int

    def scene(self, frame: int) -> Scene:
        """Return what frame number ``frame`` shows."""
        centre = self.drift.at(frame)
        image = cv2.getRectSubPix(self.backdrop.image, (self.size,) * 2, (centre.x, centre.y))
        poses = tuple(motion.at(frame) for motion in self.motions)
        backdrop = replace(self.backdrop, image=image, labels=np.zeros((0, 0), np.uint8))
        return Scene(backdrop, self.things, poses, self.light, self.grain)


def random_clip(rng: np.random.Generator, size: int, frames: int) -> Clip:
    """Draw a clip of ``frames`` frames of ``size`` x ``size`` pixels."""
    unit = size / 128
    margin = round(12 * unit)
    whole = size + 2 * margin
    things = [random_thing(rng, unit) for _ in range(rng.integers(2, _MAX_THINGS + 1))]
    motions = []
    for index, thing in enumerate(things):  # the first one stays in the picture
        travels = index > 0 and rng.random() < _FRACTION_OF_TRAVELLERS
        motions.append(_random_motion(rng, thing, size, frames, travels=travels))
    keep = _recognisable(things, motions, size, frames)
    centre = (whole - 1) / 2
    swings = [(margin * rng.random(), rng.uniform(40, 120), rng.uniform(0, 6.3)) for _ in "xy"]
    drift = Motion(*(Swing(centre, *swing) for swing in swings))
    light = random_light(rng)
    return Clip(
        backdrop=random_backdrop(rng, whole, whole, unit),
        things=tuple(things[i] for i in keep),
        motions=tuple(motions[i] for i in keep),
        drift=drift,
        light=light,
        grain=rng.uniform(0.008, 0.03),
        size=size,
    )


def _random_motion(
    rng: np.random.Generator, thing: Thing, size: int, frames: int, *, travels: bool
) -> Motion:
    """Draw a gentle swing, or one over the border and back within the clip."""
    centre, swing = rng.uniform(0.15, 0.85, 2) * size, rng.uniform(0.03, 0.22, 2) * size
    phase = rng.uniform(0, 2 * np.pi, 2)
    axis, side = rng.integers(2, size=2)
    if travels:
        inset = rng.uniform(0.02, 0.15) * size
        centre[axis] = size - inset if side else inset
        swing[axis] = 1.3 * thing.radius + inset + rng.uniform(0.02, 0.1) * size
    slowest = 2 * np.pi * swing / (_MAX_SPEED * size / 128)
    period = np.maximum(slowest, rng.uniform(18, 60, 2))
    if travels:
        farthest = rng.uniform(0.2, 0.8) * frames
        phase[axis] = (np.pi / 2 if side else -np.pi / 2) - 2 * np.pi * farthest / period[axis]
    x, y = (Swing(*map(float, values)) for values in zip(centre, swing, period, phase))
    turn = {"angle": rng.uniform(-np.pi, np.pi), "spin": float(rng.normal(0, 0.09))}
    return Motion(x, y, **turn, pulse=rng.uniform(0, 0.18))


def _recognisable(things: list[Thing], motions: list[Motion], size: int, frames: int) -> list[int]:
    """Return the indices of the things that show enough of themselves in some frames."""
    seen = np.zeros(len(things), int)
    for frame in range(frames):
        visible, whole = count_pixels(things, [motion.at(frame) for motion in motions], size)
        seen += visible >= np.maximum(_MIN_VISIBLE_FRACTION * whole, 1)
    return [i for i in range(len(things)) if seen[i] >= min(_MIN_FRAMES, frames)]
