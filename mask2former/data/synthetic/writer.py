"""Write the shapes dataset: images in COCO's three forms, or clips in that of YouTube-VIS."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..preparation.common import build_folder, map_parallel
from . import clips, images

VERSION = 1  # raise it whenever the same seed gives other pictures


def write_shapes(
    output: Path,
    *,
    video: bool = False,
    seed: int = 0,
    train: int | None = None,
    val: int | None = None,
    size: int = 128,
    frames: int | None = None,
    workers: int = 2,
    overwrite: bool = False,
) -> bool:
    """Draw the dataset into ``output``/shapes or, of clips, ``output``/shapes_video, atomically.

    The tree of images, where SPLIT is train or val::

        images/SPLIT/*.jpg               pictures of size x size
        annotations/instances_SPLIT.json COCO instances, masks as compressed RLE of what is visible
        annotations/panoptic_SPLIT.json  COCO panoptic, with panoptic_SPLIT/*.png
        sem_seg_SPLIT/*.png              class of every pixel, 0..9, in the order of the categories

    and of clips::

        SPLIT/JPEGImages/00001/00000.jpg   frames of size x size
        SPLIT.json                         masks as compressed RLE of what is visible, None where
                                           an object is hidden or outside of the image

    Args:
        video: draw clips.
        seed: the same seed gives the same bytes, whatever the number of workers.
        train, val: numbers of images (2000 and 200 by default) or clips (1000 and 40).
        size: side of the images or frames in pixels.
        frames: of each clip, 24 by default.
        workers: processes.
        overwrite: replace a dataset that exists.

    Returns:
        False if the same dataset existed already and is kept.

    Raises:
        ValueError: an argument is out of range.
        FileExistsError: there is another dataset, and ``overwrite`` is False.
    """
    options = {"size": size}
    if video:
        options["frames"] = 24 if frames is None else frames
    elif frames is not None:
        raise ValueError(f"frames are for clips only (video), got {frames}")
    defaults = (1000, 40) if video else (2000, 200)
    splits = zip(("train", "val"), (train, val), defaults)
    counts = {split: default if count is None else count for split, count, default in splits}
    _check_range("seed", seed, 0)
    _check_range("size", size, 32, 2048)
    for name, value in (counts | options).items():
        _check_range(name, value, 1)
    kind = clips if video else images

    def fill(folder: Path) -> None:
        for index, (split, count) in enumerate(counts.items()):
            task = functools.partial(_draw, kind.draw, folder, split, (seed, index), options)
            numbers = range(1, count + 1)
            records = map_parallel(task, numbers, workers=workers, label=f"drawing {split}")
            kind.write_annotations(folder, split, list(records), VERSION)

    target = Path(output) / ("shapes_video" if video else "shapes")
    parameters = {"version": VERSION, "seed": seed, **options, **counts}
    return build_folder(target, parameters, fill, overwrite=overwrite)


def _draw(
    draw: Callable[..., dict[str, Any]],
    folder: Path,
    split: str,
    seeds: tuple[int, int],
    options: Mapping[str, int],
    number: int,
) -> dict[str, Any]:
    # A generator of its own for each, so that the workers can share them out in any way.
    return draw(folder, split, number, np.random.default_rng([*seeds, number]), **options)


def _check_range(name: str, value: int, minimum: int, maximum: float = float("inf")) -> None:
    if not minimum <= value <= maximum:
        limits = f"{minimum} or more" if maximum == float("inf") else f"{minimum} to {maximum}"
        raise ValueError(f"{name} has to be {limits}, not {value}")
