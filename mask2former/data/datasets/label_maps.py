"""Folders of images and of label maps: matched by name, with labels of any numbers."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from . import common

logger = logging.getLogger(__name__)

_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_LABELS = (".png", ".tif", ".tiff", ".bmp")


def register_label_maps(
    name: str,
    classes: Mapping[int, str],
    *,
    image_root: str,
    sem_seg_root: str,
    ignore_label: int,
) -> None:
    """Register two folders whose files match by name, subfolders included.

    Args:
        classes: name of each label, in the order of the contiguous ids. Where the labels are not 0,
            1, ... themselves, the metadata entry ``sem_seg_labels`` lists them.
    """
    more = {} if list(classes) == list(range(len(classes))) else {"sem_seg_labels": list(classes)}
    common.add(
        name,
        lambda: load_label_maps(image_root, sem_seg_root),
        image_root=image_root,
        sem_seg_root=sem_seg_root,
        evaluator_type="sem_seg",
        ignore_label=ignore_label,
        stuff_classes=list(classes.values()),
        stuff_colors=common.palette(len(classes)),
        **more,
    )


def load_label_maps(image_root: str, sem_seg_root: str) -> list[dict[str, str]]:
    """Return one record an image: file_name and sem_seg_file_name.

    An image without a label map, or the other way round, is left out with a line in the log.

    Raises:
        FileNotFoundError: a folder is missing, or no file of one has its match in the other.
        ValueError: two files of a folder have the same name but for their suffix.
    """
    images, labels = _by_stem(image_root, _IMAGES), _by_stem(sem_seg_root, _LABELS)
    matched = sorted(images.keys() & labels.keys())
    if not matched:
        raise FileNotFoundError(
            f"none of the {len(images)} images in {image_root} has a label map of its name among "
            f"the {len(labels)} in {sem_seg_root}"
        )
    alone = sorted(images.keys() ^ labels.keys())
    if alone:
        logger.warning(
            "%d files of %s and %s have no match in the other folder and are left out: %s",
            len(alone), image_root, sem_seg_root, ", ".join(alone[:5]),
        )  # fmt: skip
    return [{"file_name": images[stem], "sem_seg_file_name": labels[stem]} for stem in matched]


def _by_stem(root: str, suffixes: tuple[str, ...]) -> dict[str, str]:
    """Return files by their path below ``root`` without suffix."""
    common.require(root, "A folder of images or label maps has to exist.")
    files: dict[str, str] = {}
    for path in sorted(Path(root).rglob("*")):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        stem = os.fspath(path.relative_to(root).with_suffix(""))
        if stem in files:
            raise ValueError(f"{files[stem]} and {path} have the same name: keep one of them")
        files[stem] = os.fspath(path)
    return files
