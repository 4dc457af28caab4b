"""Configs as those who predict give them: a file, and what is set on top."""

import os
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from ..config import load_config
from ..data import register_custom


def predict_config(
    path: str | os.PathLike[str],
    opts: Sequence[Any] = (),
    *,
    datasets: Sequence[str] = (),
    confidence: float | None = None,
    max_pixels: int | None = None,
) -> CfgNode:
    """Read the config of a model; register the custom datasets that it names and that exist.

    Args:
        path, opts: as for `load_config`.
        datasets: custom datasets that have to exist.
        confidence: least class probability of panoptic segments, in 0..1; None for the config's.
        max_pixels: the largest photo that is read; None for the config's.

    Raises:
        UserError, FileNotFoundError: as `load_config` and `register_custom`.
    """
    cfg = load_config(path, opts)
    register_custom(cfg, datasets)
    if confidence is not None:
        cfg.MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD = confidence
    if max_pixels is not None:
        cfg.INPUT.MAX_PIXELS = max_pixels
    cfg.freeze()
    return cfg
