"""What the writers of drawn pictures and of drawn clips share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..preparation.common import build_folder, map_parallel

_JPEG_QUALITY = 95

Record = dict[str, Any]


def write_splits(
    folder: Path,
    counts: Mapping[str, int],
    parameters: Mapping[str, int],
    draw: Callable[..., Record],
    annotate: Callable[[Path, str, list[Record]], None],
    *,
    workers: int,
    overwrite: bool,
) -> bool:
    """Draws every split of a data set into ``folder``, whole or not at all.

    Args:
        counts: of pictures or clips in each split.
        parameters: the seed, and what else the content depends on.
        draw: called with the folder to write to, the split, a number from 1 on, a seed, and the
            parameters but the seed and version as keywords.
        annotate: writes the annotation files of a split from the results of ``draw``.

    Returns:
        False if the same data set was there already and is kept.
    """
    check_range("seed", parameters["seed"], 0)
    for split, count in counts.items():
        check_range(split, count, 1)
    options = {k: v for k, v in parameters.items() if k not in ("seed", "version")}

    def fill(partial: Path) -> None:
        for index, (split, count) in enumerate(counts.items()):
            seeds = (parameters["seed"], index)
            task = functools.partial(_draw, draw, partial, split, seeds, options)
            label = f"drawing {split}"
            numbers = range(1, count + 1)
            annotate(
                partial, split, list(map_parallel(task, numbers, workers=workers, label=label))
            )

    return build_folder(folder, {**parameters, **counts}, fill, overwrite=overwrite)


def _draw(
    draw: Callable[..., Record],
    folder: Path,
    split: str,
    seeds: tuple[int, int],
    options: Mapping[str, int],
    number: int,
) -> Record:
    # A generator of its own for each, so that the workers can share them out in any way.
    return draw(folder, split, number, np.random.default_rng([*seeds, number]), **options)


def check_range(name: str, value: int, least: int, most: float = float("inf")) -> None:
    """Raises ValueError unless ``least`` <= ``value`` <= ``most``."""
    if not least <= value <= most:
        limits = f"{least} or more" if most == float("inf") else f"{least} to {most}"
        raise ValueError(f"{name} has to be {limits}, not {value}")


def write_picture(path: Path, image: np.ndarray) -> None:
    """Writes an image (H, W) or (H, W, 3) RGB, uint8; a JPEG by the suffix .jpg, else a PNG."""
    options = (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY) if path.suffix == ".jpg" else ()
    done, encoded = cv2.imencode(
        path.suffix, image[..., ::-1] if image.ndim == 3 else image, options
    )
    if not done:
        raise OSError(f"OpenCV could not encode {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())
