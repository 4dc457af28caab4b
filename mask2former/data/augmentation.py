"""The two published augmentation recipes for images, made of detectron2's augmentations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform

__all__ = ["Crop", "lsj", "lsj_from_config", "shortest_edge", "shortest_edge_from_config"]

Flip = Literal["horizontal", "vertical", "none"]
Crop = T.RandomCrop | T.RandomCrop_CategoryAreaConstraint

_CROP_TYPES = ("relative_range", "relative", "absolute", "absolute_range")


def shortest_edge(
    min_size: int | Sequence[int],
    max_size: int,
    *,
    sampling: Literal["choice", "range"] = "choice",
    crop: Crop | None = None,
    colour_format: Literal["RGB", "BGR"] | None = None,
    flip: Flip = "horizontal",
) -> list[T.Augmentation | T.Transform]:
    """The recipe of the ADE20K, Cityscapes and Mapillary configs: resize, crop, colour, flip.

    Args:
        min_size: lengths in pixels for the shorter side, to choose from; with ``sampling`` "range",
            the least and the greatest.
        max_size: the longer side gets no longer than this, in pixels.
        crop: a random crop of the resized image.
        colour_format: distorts brightness, contrast, saturation and hue as SSD does, of images in
            this order of channels.
        flip: with probability 0.5.
    """
    if sampling not in ("choice", "range"):
        raise ValueError(
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
    """Reads ``shortest_edge`` for training from INPUT.

    Args:
        area_constraint: crops heed CROP.SINGLE_CATEGORY_MAX_AREA, which takes a semantic map.
    """
    settings = cfg.INPUT
    crop: Crop | None = None
    if settings.CROP.ENABLED:
        if settings.CROP.TYPE not in _CROP_TYPES:
            raise ValueError(
                f"INPUT.CROP.TYPE: expected one of {', '.join(_CROP_TYPES)}, "
                f"got {settings.CROP.TYPE!r}"
            )
        crop = T.RandomCrop(settings.CROP.TYPE, settings.CROP.SIZE)
        if area_constraint:
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
    """Reads ``lsj`` from INPUT."""
    settings = cfg.INPUT
    return lsj(
        settings.IMAGE_SIZE, settings.MIN_SCALE, settings.MAX_SCALE, flip=settings.RANDOM_FLIP
    )


def _flips(flip: str) -> list[T.Augmentation | T.Transform]:
    if flip not in ("horizontal", "vertical", "none"):
        raise ValueError(
            f"INPUT.RANDOM_FLIP: expected 'horizontal', 'vertical' or 'none', got {flip!r}"
        )
    if flip == "none":
        return []
    return [T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical")]
