"""What has to be there before detectron2 can load Cityscapes, whose loaders only assert it."""

import os
from collections.abc import Iterator
from pathlib import Path

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ...annotations.registered import is_made_by

_PHOTO = "_leftImg8bit.png"
_UNPACK = "unpack gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip there"
_LABELS = "make it with: CITYSCAPES_DATASET=/path/to/cityscapes csCreateTrainIdLabelImgs"
_PANOPTIC = "make it with: CITYSCAPES_DATASET=/path/to/cityscapes csCreatePanopticImgs"


def require_cityscapes(name: str) -> None:
    """Check that the files of a dataset are there; any but detectron2's of Cityscapes pass.

    Raises:
        FileNotFoundError: with the first that is missing, and the command that makes it.
    """
    metadata = MetadataCatalog.get(name)
    load = DatasetCatalog.data.get(name)
    if not any(is_made_by(load, f"register_all_cityscapes{end}") for end in ("", "_panoptic")):
        return
    for path, hint in _needed(metadata):
        if not os.path.exists(path):
            raise FileNotFoundError(
                f"dataset {name}: {path} is missing; {hint} (cityscapesscripts; see "
                "datasets/README.md)"
            )


def _needed(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """Yield the paths that a loader needs, each with how to make it."""
    images = metadata.get("image_root") or metadata.get("image_dir")
    kind = metadata.evaluator_type
    yield images, _UNPACK
    if kind != "cityscapes_panoptic_seg":
        yield metadata.gt_dir, _UNPACK
    else:
        yield metadata.panoptic_json, _PANOPTIC
        yield metadata.panoptic_root, _PANOPTIC
    photos = sorted(Path(images).glob(f"*/*{_PHOTO}"))
    if not photos:
        yield os.path.join(images, "CITY", f"*{_PHOTO}"), _UNPACK
    for photo in photos:
        stem = os.path.join(metadata.gt_dir, photo.parent.name, photo.name.removesuffix(_PHOTO))
        if kind == "cityscapes_panoptic_seg":  # as the loader has it, dots in folders included
            stem = str(photo).replace("leftImg8bit", "gtFine").split(".")[0].removesuffix("_gtFine")
        stem += "_gtFine_"
        if kind != "cityscapes_panoptic_seg":
            yield f"{stem}polygons.json", _UNPACK
        if kind != "cityscapes_panoptic_seg" and photo is photos[0]:
            yield f"{stem}instanceIds.png", _UNPACK
            yield f"{stem}labelIds.png", _UNPACK
        if kind != "cityscapes_instance":
            yield f"{stem}labelTrainIds.png", _LABELS
