"""The published augmentation recipes, made of detectron2's augmentations."""

from collections.abc import Callable, Sequence
from typing import Literal

from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform

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
    """
    settings = cfg.INPUT
    unknown = set(settings.AUGMENTATIONS) - _CLIP_AUGMENTATIONS.keys()
    if unknown:
        raise ValueError(
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
        raise ValueError(
            f"INPUT.CROP.TYPE: expected one of {', '.join(_CROP_TYPES)}, got {crop.TYPE!r}"
        )
    return T.RandomCrop(crop.TYPE, crop.SIZE)


def _flips(flip: str) -> list[T.Augmentation | T.Transform]:
    if flip not in ("horizontal", "vertical", "none"):
        raise ValueError(
            f"INPUT.RANDOM_FLIP: expected 'horizontal', 'vertical' or 'none', got {flip!r}"
        )
    if flip == "none":
        return []
    return [T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical")]
