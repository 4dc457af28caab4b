"""From predictions to lines of results and to pictures, in any process.

A line is a json object with one key that says what it is: {"instances": {...}}.
"""

import logging
import pickle
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.structures import Instances

from ...formats.images import write_image
from ...formats.json_files import to_json_line
from ...formats.label_maps import write_panoptic_png
from ...mosaic import Mosaic
from ...mosaic.drawing import picture
from ...mosaic.files import entries, write_labels, write_segments
from ...results.files import Categories
from ...visualization import draw, semantic_labels
from ..image import Predictor
from .items import Item
from .settings import DRAWINGS, INSTANCES, LABELS, PANOPTIC, PARQUET, Settings

logger = logging.getLogger(__name__)


def line(kind: str, entry: Any) -> str:
    """Return a line of results."""
    return f'{{"{kind}":{to_json_line(entry)}}}'


def lines_of(kind: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield the entries of one kind, as json text."""
    start = f'{{"{kind}":'
    for text in lines:
        if text.startswith(start):
            yield text.rstrip("\n")[len(start) : -1]


def reduce(prediction: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Return what is needed of a prediction of one image, on the CPU.

    Instances of a low score are left out, and semantic scores become labels (H, W), -1 for none.
    """
    needs, kept = settings.needs, {}
    if INSTANCES in needs:
        instances = prediction["instances"]
        kept["instances"] = instances[instances.scores >= settings.score_threshold].to("cpu")
    if PANOPTIC in needs:
        ids, segments = prediction["panoptic_seg"]
        kept["panoptic_seg"] = (ids.cpu(), segments)
    if LABELS in needs:
        kept["sem_seg"] = semantic_labels(prediction["sem_seg"], settings.label_threshold)
    return kept


class Encoder:
    """Write the results of images: lines, and files into the folder of a shard.

    Args:
        predictor: names the classes, and reads the images that are drawn on; its model is not used.
        settings: of the job.
        root: where relative paths of items start.
    """

    def __init__(self, predictor: Predictor, settings: Settings, root: Path):
        self._predictor = predictor
        self._settings = settings
        self._root = root
        self._categories = Categories(predictor.metadata)

    def image(self, item: Item, prediction: Mapping[str, Any], part: Path) -> list[str]:
        """Return the lines of an image and write its files.

        Args:
            prediction: as `reduce` returns it.
            part: folder of the shard's files.

        Raises:
            OSError: the files cannot be written.
        """
        outputs = self._settings.outputs
        image = {"image_id": item.id, "file_name": item.file_name}
        lines = []
        if INSTANCES in outputs or PARQUET in outputs:
            entries = self._categories.instances(prediction["instances"])
            lines += [line(INSTANCES, image | entry) for entry in entries]
        if PANOPTIC in outputs:
            lines += self._panoptic(item, *prediction["panoptic_seg"], part)
        if LABELS in outputs:
            name = f"{item.name}.png"
            write_image(part / LABELS / name, self.label_map(prediction["sem_seg"].numpy()))
            lines.append(line(LABELS, image | {"labels": name}))
        if DRAWINGS in outputs:
            picture = self._draw(item, prediction)
            write_image(part / DRAWINGS / f"{item.name}.jpg", picture, quality=92)
        return lines

    def mosaic(self, item: Item, mosaic: Mosaic, part: Path) -> list[str]:
        """Return the lines of an image that was predicted in tiles, and write its files: TIFF in
        the place of PNG. The arguments are those of `image`."""
        outputs, categories = self._settings.outputs, self._categories
        image = {"image_id": item.id, "file_name": item.file_name}
        tiff, lines = f"{item.name}.tif", list[str]()
        if INSTANCES in outputs or PARQUET in outputs:
            lines += [line(INSTANCES, image | entry) for entry in entries(mosaic, categories)]
        if PANOPTIC in outputs:
            infos = write_segments(part / PANOPTIC / tiff, mosaic, categories)
            lines += _panoptic_lines(item, tiff, mosaic.size, infos)
        if LABELS in outputs:
            write_labels(part / LABELS / tiff, mosaic, categories)
            lines.append(line(LABELS, image | {"labels": tiff}))
        if DRAWINGS in outputs:
            drawn = picture(mosaic, self._predictor.metadata, self._settings.kind)
            write_image(part / DRAWINGS / f"{item.name}.jpg", drawn, quality=92)
        return lines

    def label_map(self, labels: np.ndarray) -> np.ndarray:
        """Return labels (H, W) as the dataset's ids of classes; see `Categories.label_table`."""
        count = self._predictor.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        return self._categories.label_table(count)[labels]

    def _panoptic(
        self,
        item: Item,
        ids: torch.Tensor,
        segments: list[dict[str, Any]],
        part: Path,
    ) -> list[str]:
        segment_map, png = ids.numpy(), f"{item.name}.png"
        write_panoptic_png(part / PANOPTIC / png, segment_map)
        infos = self._categories.panoptic(segment_map, segments)
        return _panoptic_lines(item, png, segment_map.shape, infos)

    def _draw(self, item: Item, prediction: Mapping[str, Any]) -> np.ndarray:
        settings = self._settings
        image = self._predictor.to_rgb(item.source(self._root))
        # Labels and instances have passed their thresholds.
        return draw(image, prediction, self._predictor.metadata, settings.kind)


def _panoptic_lines(
    item: Item, file_name: str, size: tuple[int, ...], infos: list[dict[str, Any]]
) -> list[str]:
    """Return the lines of a panoptic result: of the image (H, W), and of its segments in a file."""
    sides = dict(zip(("height", "width"), size))
    return [
        line("image", {"id": item.id, "file_name": item.file_name, **sides}),
        line(PANOPTIC, {"image_id": item.id, "file_name": file_name, "segments_info": infos}),
    ]


def pack(prediction: Mapping[str, Any]) -> bytes:
    """Return what `reduce` returned as bytes for another process, masks in bits."""
    packed = dict(prediction)
    if "instances" in packed:
        instances = packed["instances"]
        fields = instances.get_fields()
        masks = fields.pop("pred_masks")
        bits = np.packbits((masks > 0.5).numpy(), axis=-1)
        packed["instances"] = (instances.image_size, fields, bits)
    return pickle.dumps(packed, pickle.HIGHEST_PROTOCOL)


def unpack(packed: bytes) -> dict[str, Any]:
    """Undo `pack`, of this program's own bytes."""
    prediction = pickle.loads(packed)
    if "instances" in prediction:
        size, fields, bits = prediction["instances"]
        masks = np.unpackbits(bits, axis=-1, count=size[1]).view(bool)
        fields = dict(fields, pred_masks=torch.from_numpy(masks))
        prediction["instances"] = Instances(size, **fields)
    return prediction
