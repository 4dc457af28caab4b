"""A camera that drifts over a photo: the motion of pseudo-clips."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from detectron2.data import transforms as T

_FILL = 128  # grey, for what lies outside of the photo


class AffineTransform(T.Transform):
    """Moves every point x to A x + b, on a canvas of the same size.

    Images are interpolated bilinearly and filled with grey, label maps take the nearest pixel and
    are filled with 0.

    Args:
        matrix: (2, 3), [A | b], for coordinates in which pixel (0, 0) covers [0, 1] x [0, 1].
    """

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__()
        self.matrix = np.asarray(matrix, np.float64)
        # OpenCV puts the centre of pixel (0, 0) at (0, 0), not at (0.5, 0.5).
        shift = self.matrix[:, :2] @ [0.5, 0.5] + self.matrix[:, 2] - 0.5
        self._for_pixels = np.column_stack([self.matrix[:, :2], shift])

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        fill = (_FILL,) * 4
        return self._warp(image, flags=cv2.INTER_LINEAR, borderValue=fill).reshape(image.shape)

    def apply_segmentation(self, labels: np.ndarray) -> np.ndarray:
        return self._warp(labels, flags=cv2.INTER_NEAREST, borderValue=0)

    def apply_coords(self, points: np.ndarray) -> np.ndarray:
        return points @ self.matrix[:, :2].T + self.matrix[:, 2]

    def _warp(self, array: np.ndarray, **options) -> np.ndarray:
        return cv2.warpAffine(array, self._for_pixels, array.shape[1::-1], **options)


@dataclass(frozen=True)
class Drift:
    """How far the camera may turn, zoom and move, from the photo as it is.

    Attributes:
        rotation: maximum in degrees, both ways.
        scale: maximum factor, in and out; at least 1.
        shift: maximum as a fraction of the sides, in both directions of both.
    """

    rotation: float = 10.0
    scale: float = 1.2
    shift: float = 0.1

    def __post_init__(self) -> None:
        if self.rotation < 0 or self.scale < 1 or self.shift < 0:
            raise ValueError(
                "INPUT.PSEUDO_CLIP: expected ROTATION >= 0, SCALE >= 1 and SHIFT >= 0, got "
                f"{self.rotation}, {self.scale} and {self.shift}"
            )

    def draw(self, frames: int, size: tuple[int, int]) -> list[AffineTransform]:
        """Draw a start and an end pose, and go from one to the other in equal steps.

        Args:
            frames: T; one frame takes the start.
            size: (H, W) in pixels.
        """
        limits = np.array([self.rotation, math.log(self.scale), self.shift, self.shift])
        start, end = np.random.uniform(-1, 1, (2, 4)) * limits  # noqa: NPY002 (as detectron2)
        fractions = np.linspace(0, 1, frames)
        return [_pose(*(start + fraction * (end - start)), size) for fraction in fractions]


def _pose(
    rotation: float, log_scale: float, right: float, down: float, size: tuple[int, int]
) -> AffineTransform:
    """Turn and scale about the centre and then move."""
    height, width = size
    centre = np.array([width / 2, height / 2])
    angle, scale = math.radians(rotation), math.exp(log_scale)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cos, sin], [-sin, cos]])  # y points down: counterclockwise
    offset = centre - linear @ centre + [right * width, down * height]
    return AffineTransform(np.column_stack([linear, offset]))
