"""The results of mosaics as files: tiled TIFF of ids and of labels, and COCO's json."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..formats.rasters import write_tiff
from ..results.files import Categories, PredictionFiles
from .result import Mosaic

PANOPTIC, LABELS = "panoptic", "labels"  # folders of TIFF files, and what their json is called


class MosaicFiles(PredictionFiles):
    """Collect the results of mosaics, and write them in the forms of `PredictionFiles`.

    Segment ids are in `panoptic/*.tif`, of int32, and labels in `labels/*.tif`, the dataset's ids
    of classes as `label_table` has them, both with the georeference of the image.
    """

    def add_mosaic(self, file_name: str, mosaic: Mosaic, image_id: Any = None) -> None:
        """Take in the results of one image; TIFF files are written at once.

        Raises:
            UserError: an image_id that came before, or a class that the dataset lacks.
            OSError: the files cannot be written.
        """
        image = {"image_id": self._new_id(image_id), "file_name": file_name}
        tiff = f"{len(self._image_ids):06d}.tif"
        if mosaic.options.panoptic:
            infos = write_segments(self.folder / PANOPTIC / tiff, mosaic, self._categories)
            size = dict(zip(("height", "width"), mosaic.size))
            entry = {"id": image["image_id"], "file_name": file_name, **size}
            self._append("images", [entry])
            found = {"image_id": image["image_id"], "file_name": tiff, "segments_info": infos}
            self._append("panoptic", [found])
        if mosaic.options.semantic:
            write_labels(self.folder / LABELS / tiff, mosaic, self._categories)
            self._append("labels", [image | {"labels": tiff}])
        if mosaic.options.instances:
            self._append("instances", (image | e for e in entries(mosaic, self._categories)))


def entries(mosaic: Mosaic, categories: Categories) -> Iterator[dict[str, Any]]:
    """Yield the instances as COCO results, which still lack the image."""
    for found in mosaic.instances():
        yield {
            "category_id": categories.id(found.label, True),
            "score": found.score,
            "bbox": list(found.box),
            "segmentation": found.rle,
        }


def write_segments(path: Path, mosaic: Mosaic, categories: Categories) -> list[dict[str, Any]]:
    """Write the ids of panoptic segments as a tiled TIFF; return COCO's `segments_info`."""
    write_tiff(path, mosaic.panoptic(), mosaic.size, np.int32, mosaic.georeference)
    infos = []
    for segment in mosaic.segments:
        category = categories.id(segment["category_id"], segment["isthing"])
        infos.append({"id": segment["id"], "category_id": category, "area": segment["area"]})
    return infos


def write_labels(path: Path, mosaic: Mosaic, categories: Categories) -> None:
    """Write the dataset's id of the class of every pixel as a tiled TIFF."""
    table = categories.label_table(mosaic.num_classes)
    bands = (table[band] for band in mosaic.labels())  # -1 is the last
    write_tiff(path, bands, mosaic.size, table.dtype, mosaic.georeference)
