"""The published augmentation recipes, made of detectron2's augmentations, and what drifts a photo.

`Drift` moves a camera over a photo, which makes a clip of it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform

from ..errors import UserError

Flip = Literal["horizontal", "vertical", "none"]
Crop = T.RandomCrop | T.RandomCrop_CategoryAreaConstraint

_CROP_TYPES = ("relative_range", "relative", "absolute", "absolute_range")

_FILL = 128  # grey, for what lies outside of a photo that drifts


def shortest_edge(
    min_size: int | Sequence[int],
    max_size: int,
    *,
    sampling: Literal["choice", "range"] = "choice",
    crop: Crop | None = None,
    colour_format: Literal["RGB", "BGR"] | None = None,
    flip: Flip = "horizontal",
) -> list[T.Augmentation | T.Transform]:
    """Return the recipe of the ADE20K, Cityscapes and Mapillary configs.

    It resizes, crops, changes colours and flips.

    Args:
        min_size: lengths in pixels for the shorter side, to choose from; with ``sampling`` "range",
            the minimum and the maximum.
        max_size: the longer side gets no longer than this, in pixels.
        crop: a random crop of the resized image.
        colour_format: distorts brightness, contrast, saturation and hue as SSD does, of images in
            this order of channels.
        flip: with probability 0.5.

    Raises:
        UserError: an unknown ``sampling``.
    """
    if sampling not in ("choice", "range"):
        raise UserError(
            f"INPUT.MIN_SIZE_TRAIN_SAMPLING: expected 'choice' or 'range', got {sampling!r}"
        )
    augmentations: list[T.Augmentation | T.Transform] = []
    augmentations.append(T.ResizeShortestEdge(min_size, max_size, sampling))
    if crop is not None:
        augmentations.append(crop)
    if colour_format is not None:
        augmentations.append(ColorAugSSDTransform(colour_format))
    return augmentations + _flips(flip)


def lsj(
    side: int, min_scale: float, max_scale: float, *, flip: Flip = "horizontal"
) -> list[T.Augmentation | T.Transform]:
    """Large-scale jitter, the recipe of the COCO configs (Simple Copy-Paste, section 3).

    The image is flipped, resized to fit a square of ``side`` times a uniform random scale, and a
    square of ``side`` is cut out of it where it is larger. Where it is smaller, the mapper pads it.

    Args:
        side: of the square, in pixels.
        min_scale, max_scale: range of the scale.
    """
    return [
        *_flips(flip),
        T.ResizeScale(min_scale, max_scale, side, side),
        T.FixedSizeCrop((side, side), pad=False),
    ]


def shortest_edge_from_config(
    cfg: CfgNode, *, area_constraint: bool
) -> list[T.Augmentation | T.Transform]:
    """Read ``shortest_edge`` for training from INPUT.

    Args:
        area_constraint: crops respect CROP.SINGLE_CATEGORY_MAX_AREA, which takes a semantic map.
    """
    settings = cfg.INPUT
    crop = _crop_from_config(cfg)
    if crop is not None and area_constraint:
        crop = T.RandomCrop_CategoryAreaConstraint(
            settings.CROP.TYPE,
            settings.CROP.SIZE,
            settings.CROP.SINGLE_CATEGORY_MAX_AREA,
            cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        )
    return shortest_edge(
        settings.MIN_SIZE_TRAIN,
        settings.MAX_SIZE_TRAIN,
        sampling=settings.MIN_SIZE_TRAIN_SAMPLING,
        crop=crop,
        colour_format=settings.FORMAT if settings.COLOR_AUG_SSD else None,
        flip=settings.RANDOM_FLIP if settings.OBEY_RANDOM_FLIP else "horizontal",
    )


def lsj_from_config(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    """Read ``lsj`` from INPUT."""
    settings = cfg.INPUT
    return lsj(
        settings.IMAGE_SIZE, settings.MIN_SCALE, settings.MAX_SCALE, flip=settings.RANDOM_FLIP
    )


def clip_from_config(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    """Read the published recipe for clips from INPUT: crop, resize, flip, colours, rotation.

    "..._by_clip" and the plain values of MIN_SIZE_TRAIN_SAMPLING and RANDOM_FLIP mean the same,
    since all frames of a clip are augmented alike anyway.

    Raises:
        UserError: an unknown name in INPUT.AUGMENTATIONS; else as `shortest_edge`.
    """
    settings = cfg.INPUT
    unknown = set(settings.AUGMENTATIONS) - _CLIP_AUGMENTATIONS.keys()
    if unknown:
        raise UserError(
            f"INPUT.AUGMENTATIONS: expected any of {', '.join(_CLIP_AUGMENTATIONS)}, "
            f"got {', '.join(sorted(unknown))}"
        )
    flip = "horizontal" if settings.RANDOM_FLIP == "flip_by_clip" else settings.RANDOM_FLIP
    sampling = settings.MIN_SIZE_TRAIN_SAMPLING.removesuffix("_by_clip")
    crop = _crop_from_config(cfg)
    resize = shortest_edge(
        settings.MIN_SIZE_TRAIN, settings.MAX_SIZE_TRAIN, sampling=sampling, flip=flip
    )
    more = [make() for n, make in _CLIP_AUGMENTATIONS.items() if n in settings.AUGMENTATIONS]
    return [*([] if crop is None else [crop]), *resize, *more]


# In the order in which they apply.
_CLIP_AUGMENTATIONS: dict[str, Callable[[], T.Augmentation]] = {
    "brightness": lambda: T.RandomBrightness(0.9, 1.1),
    "contrast": lambda: T.RandomContrast(0.9, 1.1),
    "saturation": lambda: T.RandomSaturation(0.9, 1.1),
    "rotation": lambda: T.RandomRotation([-15, 15], expand=False, center=[(0.4, 0.4), (0.6, 0.6)]),
}


def _crop_from_config(cfg: CfgNode) -> T.RandomCrop | None:
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        return None
    if crop.TYPE not in _CROP_TYPES:
        raise UserError(
            f"INPUT.CROP.TYPE: expected one of {', '.join(_CROP_TYPES)}, got {crop.TYPE!r}"
        )
    return T.RandomCrop(crop.TYPE, crop.SIZE)


def _flips(flip: str) -> list[T.Augmentation | T.Transform]:
    if flip not in ("horizontal", "vertical", "none"):
        raise UserError(
            f"INPUT.RANDOM_FLIP: expected 'horizontal', 'vertical' or 'none', got {flip!r}"
        )
    if flip == "none":
        return []
    return [T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical")]


class AffineTransform(T.Transform):
    """Move every point x to A x + b, on a canvas of the same size.

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
            raise UserError(
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
