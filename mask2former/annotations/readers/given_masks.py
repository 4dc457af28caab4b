"""Masks from files of any tool: COCO json with RLE or polygons, or PNGs of labels."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ...formats.json_files import read_json
from ...formats.label_maps import read_objects, read_panoptic_png
from ...formats.pillow import image_suffixes
from ...formats.segmentations import draw_mask, error_prefix
from ..findings import AnnotationError, Findings
from ..parts.fields import flag, id_key, number
from ..parts.masks import MaskReader

logger = logging.getLogger(__name__)

Size = tuple[int, int]  # H, W in pixels
_MAX_LABELS = 10_000  # a map with more is a photo


class RleMasks:
    """Masks that are drawn when they are looked at, so that any number fits in memory.

    Args:
        annotations: each with `segmentation`: an RLE, or polygons.
        size: (H, W) of the image.
        name: of the file that they are from, for errors.

    Raises:
        UserError: on indexing, a segmentation that is damaged or of another size; names it.
    """

    def __init__(self, annotations: Sequence[Mapping[str, Any]], size: Size, name: str = ""):
        self.annotations = list(annotations)
        self._prefix = f"{name}: " if name else ""
        self.shape = (len(self.annotations), *size)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, index: Tensor | Sequence[int]) -> Tensor:
        """Return the masks (n, H, W), bool, at n indices."""
        indices = torch.as_tensor(index).tolist()
        masks = np.zeros((len(indices), *self.shape[1:]), bool)
        for mask, i in zip(masks, indices):
            try:
                mask[:] = draw_mask(self.annotations[i], i, mask.shape)
            except UserError as error:
                raise UserError(f"{self._prefix}{error}") from error
        return torch.from_numpy(masks)


class LabelMasks:
    """Masks that are the regions of equal values of a map.

    Args:
        labels: (H, W) integers; 0 is no mask.

    Raises:
        UserError: so many values that it cannot be a map of labels.
    """

    def __init__(self, labels: np.ndarray):
        self.labels = torch.from_numpy(labels.astype(np.int64))
        self.values = self.labels[self.labels != 0].unique()
        if len(self.values) > _MAX_LABELS:
            raise UserError(
                f"{len(self.values)} different values are more than a map of labels has; it seems "
                "to be a photo"
            )
        self.shape = (len(self.values), *labels.shape)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor | Sequence[int]) -> Tensor:
        """Return the masks (n, H, W), bool, at n indices, in ascending order of their values."""
        return self.labels == self.values[torch.as_tensor(index)][:, None, None]


Masks = RleMasks | LabelMasks


class MaskFile:
    """The masks in a file, of one image or of several.

    Forms that are read: a PNG, of which each value (palette index, grey value, or colour as a
    COCO panoptic id) but 0 is a mask, see `read_objects`; and json with COCO results, with COCO
    ground truth (`annotations`, `images`), of an image of SA-1B (`annotations`, `image`) or with a
    list of bare RLE. Crowd is left out, and so are masks that cannot be used, which the log says;
    see ``POLICY``.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: no such file.
        UserError: none of these forms, damaged, or no mask is left.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._labels: LabelMasks | None = None
        self._groups: dict[Any, list[dict[str, Any]]] = {}
        self._by_name = False
        if not self.path.is_file():
            raise FileNotFoundError(f"masks: there is no file {self.path}")
        if self.path.suffix.lower() == ".json":
            self._read_json()
        else:
            self._labels = _read_label_map(self.path)

    def of_image(
        self, file: str | Path, size: Size, image_id: Any = None, *, missing_ok: bool = False
    ) -> tuple[Masks, Tensor | None]:
        """Return the masks of one image.

        Args:
            file: of the image; masks are found by its name, if they say names.
            size: (H, W) of it, in pixels.
            image_id: by which they are found, if they say ids alone.
            missing_ok: an image that the file says nothing of has no masks.

        Returns:
            the masks, and how good the tool finds each, (N,) in 0..1, if it says so of all.

        Raises:
            UserError: masks of another size, or of several images of which none is this one.
        """
        if self._labels is not None:
            if self._labels.shape[1:] != tuple(size):
                raise UserError(_other_size(self.path, self._labels.shape[1:], size))
            return self._labels, None
        annotations = self._annotations_of(Path(file), image_id, missing_ok)
        for i, annotation in enumerate(annotations):
            found = _rle_size(annotation["segmentation"])
            if found is not None and found != tuple(size):
                raise UserError(f"mask {i}: {_other_size(self.path, found, size)}")
        scores = [number(a.get("score", a.get("predicted_iou"))) for a in annotations]
        known = bool(scores) and None not in scores
        masks = RleMasks(annotations, size, str(self.path))
        return masks, torch.tensor(scores).clamp(0, 1) if known else None

    def _annotations_of(self, file: Path, image_id: Any, missing_ok: bool) -> list[dict[str, Any]]:
        key = file.name if self._by_name else id_key(image_id)
        if key in self._groups:
            return self._groups[key]
        if missing_ok:
            return []
        if len(self._groups) <= 1 and image_id is None:  # it can mean no other image
            return next(iter(self._groups.values()), [])
        kind = "named" if self._by_name else "with the image_id"
        some = ", ".join(map(str, list(self._groups)[:3]))
        raise UserError(
            f"{self.path} has masks of {len(self._groups)} images ({some}, ...), none of them "
            f"{kind} {key}"
        )

    def _read_json(self) -> None:
        data = read_json(self.path)
        images: list[Any] = []
        if isinstance(data, dict):
            images = data.get("images", [data["image"]] if "image" in data else [])
            data = data.get("annotations")
        if not isinstance(data, list) or not isinstance(images, list):
            raise UserError(
                f"{self.path}: expected a list of masks, or a COCO json with `annotations`"
            )
        annotations = [self._annotation(entry, i) for i, entry in enumerate(data)]
        findings = Findings(str(self.path))
        masks = MaskReader(findings)
        kept = [a for i, a in enumerate(annotations) if masks.read(a, f"mask {i}", None)]
        for line in findings.summary():
            logger.warning("%s", line)
        if annotations and not kept:
            raise AnnotationError(findings)
        self._group(kept, images)

    def _annotation(self, entry: Any, index: int) -> dict[str, Any]:
        if isinstance(entry, dict) and "counts" in entry:
            entry = {"segmentation": entry}
        if not isinstance(entry, dict) or "segmentation" not in entry:
            raise UserError(
                f"{self.path}: mask {index}: expected an RLE, or an entry with `segmentation`"
            )
        return entry

    def _group(self, annotations: Sequence[dict[str, Any]], images: Sequence[Any]) -> None:
        """Sort the masks by the names of their images, if all have one, else by ids."""
        ids = {
            id_key(image.get("id", image.get("image_id"))): name
            for image in images
            if isinstance(image, dict) and (name := _file_name(image))
        }
        names = [_file_name(a) or ids.get(id_key(a.get("image_id"))) for a in annotations]
        if len(ids) == 1:  # of SA-1B, whose annotations do not say whose they are
            names = [name or next(iter(ids.values())) for name in names]
        self._by_name = all(names) and bool(names or ids)
        if self._by_name:
            self._groups = {name: [] for name in ids.values()}
        for annotation, name in zip(annotations, names):
            key = name if self._by_name else id_key(annotation.get("image_id"))
            group = self._groups.setdefault(key, [])
            if not flag(annotation.get("iscrowd")):
                group.append(annotation)


def _file_name(entry: Mapping[str, Any]) -> str | None:
    """Return the name of an entry's file without its folder; None where it has none."""
    name = entry.get("file_name")
    return Path(name).name if isinstance(name, str) else None


def find_mask_file(path: str | Path, image: str | Path) -> Path:
    """Return the file of masks for an image: the path or, in a folder, the json or map of its name.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for suffix in (".json", ".png", *sorted(image_suffixes())):
        file = path / f"{Path(image).stem}{suffix}"
        if file.is_file() and file.resolve() != Path(image).resolve():
            return file
    raise FileNotFoundError(f"masks: {path} has no {Path(image).stem}.json or .png")


def _read_label_map(path: Path) -> LabelMasks:
    try:
        labels = read_objects(path)
    except UserError:
        labels = read_panoptic_png(path)  # has three channels, or says what is wrong
    with error_prefix(str(path)):
        return LabelMasks(labels)


def _rle_size(segmentation: Any) -> tuple[int, ...] | None:
    size = segmentation.get("size") if isinstance(segmentation, Mapping) else None
    return tuple(size) if isinstance(size, list) else None


def _other_size(path: Path, found: Sequence[int], size: Size) -> str:
    return (
        f"{path} has masks of {found[1]}x{found[0]} pixels (width x height), the image has "
        f"{size[1]}x{size[0]}; masks must be of the image's own size"
    )
