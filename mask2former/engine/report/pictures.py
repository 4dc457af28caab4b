"""Pictures of a report: training images under their targets, predictions beside the truth."""

import io
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from PIL import Image

from ...errors import UserError
from ...formats.images import read_annotated, to_array, write_image
from ...formats.rle import decode
from ...formats.segmentations import compress
from ...painting import Region, paint
from ...results.classes import class_name
from ...results.regions import class_colour, class_region, object_regions

TRAINING_FOLDER = "report"
TRAINING_PICTURES = 12
_SIDE = 480  # longer side of a picture, in pixels


def write_training_pictures(
    folder: Path, batch: Sequence[Mapping[str, Any]], start: int, dataset: str, image_format: str
) -> int:
    """Draw mapped images as they come to the model, under their targets, into a folder.

    Args:
        batch: of images, with "image" (3, H, W), or of clips, with lists of frames; those without
            ``instances`` that have masks are drawn without.
        start: number of the first picture.
        dataset: the name of the classes' dataset.
        image_format: of the pixels: "RGB" or "BGR"; others are drawn as they are.

    Returns:
        how many pictures there are then, at most `TRAINING_PICTURES`.
    """
    metadata = MetadataCatalog.get(dataset)
    for item in batch:
        if start >= TRAINING_PICTURES:
            break
        frames, targets = item.get("image"), item.get("instances")
        if frames is None:
            continue
        if not isinstance(frames, list | tuple):
            frames, targets = [frames], [targets]
        picture = _drawn_target(frames[0], targets[0] if targets else None, metadata, image_format)
        write_image(folder / f"training_{start:02d}.jpg", picture, quality=80)
        start += 1
    return start


def _drawn_target(frame: Any, target: Any, metadata: Any, image_format: str) -> np.ndarray:
    image = frame.permute(1, 2, 0).cpu().numpy().clip(0, 255).astype(np.uint8)
    if image_format == "BGR":
        image = image[..., ::-1]
    regions = []
    if target is not None and target.has("gt_masks"):
        masks = getattr(target.gt_masks, "tensor", target.gt_masks)
        masks = np.asarray(masks, bool) if len(target) else np.zeros((0, *image.shape[:2]), bool)
        regions = _target_regions(masks, target.gt_classes.tolist(), metadata)
    return _painted(image, regions)


def _target_regions(masks: np.ndarray, labels: Sequence[int], metadata: Any) -> list[Region]:
    """Return stuff in the colour of its class, then things; without any stuff all are things."""
    things = set((metadata.get("thing_dataset_id_to_contiguous_id") or {}).values())
    is_stuff = [bool(metadata.get("stuff_classes")) and k not in things for k in labels]
    objects = [i for i, stuff in enumerate(is_stuff) if not stuff]
    names = [class_name(metadata, labels[i], False) for i in objects]
    areas = [class_region(masks[i], labels[i], metadata) for i in np.flatnonzero(is_stuff)]
    return [*areas, *object_regions(masks[objects], names)]


def worst_pictures(
    images: Sequence[Mapping[str, Any]], colours: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, str, str, str]]:
    """Yield (caption, prediction, truth, note) of the images that `WorstImages` kept.

    Args:
        colours: of stuff, RGB in 0..255, by the names of the classes.

    Pictures are the sources of html's ``img``; empty, with a note, where the photo cannot be used.
    """
    for image in images:
        name = str(image["file_name"])
        caption = f"{Path(name).name}: {float(image['score']):.2f}"
        try:
            photo = read_annotated(_size(image), name)
            sides = (image["prediction"], image["truth"])
            pair = [_painted(photo, _regions(entries, colours)) for entries in sides]
        except (OSError, UserError, ValueError) as error:
            yield caption, "", "", str(error)
        else:
            yield caption, *map(inline_jpeg, pair), ""


def inline_jpeg(image: np.ndarray, quality: int = 75) -> str:
    """Return an image (H, W, 3) as a source of html's ``img`` that needs no file."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + b64encode(buffer.getvalue()).decode()


def inline_file(path: Path) -> str:
    """Return a JPEG file likewise."""
    return "data:image/jpeg;base64," + b64encode(path.read_bytes()).decode()


def _size(image: Mapping[str, Any]) -> dict[str, int]:
    """Return the size that the masks of an image have, if there are any."""
    for entry in (*image["prediction"], *image["truth"]):
        height, width = entry["segmentation"]["size"]
        return {"height": height, "width": width}
    return {}


def _regions(
    entries: Sequence[Mapping[str, Any]], colours: Mapping[str, Sequence[int]]
) -> list[Region]:
    """Return stuff in the colour of its class, then things, large ones first."""
    masks = [_mask(entry["segmentation"]) for entry in entries]
    stuff = [
        Region(mask, _colour(entry, colours), entry["category"])
        for mask, entry in zip(masks, entries)
        if not entry["isthing"]
    ]
    things = [i for i, entry in enumerate(entries) if entry["isthing"]]
    names = [
        entries[i]["category"] + (f" {entries[i]['score']:.0%}" if "score" in entries[i] else "")
        for i in things
    ]
    return [*stuff, *object_regions([masks[i] for i in things], names)]


def _colour(entry: Mapping[str, Any], colours: Mapping[str, Sequence[int]]) -> np.ndarray:
    known = colours.get(entry["category"])
    return class_colour({}, entry["label"]) if known is None else np.array(known) / 255


def _mask(segmentation: Mapping[str, Any]) -> np.ndarray:
    return decode(compress(segmentation, *segmentation["size"])).astype(bool)


def _painted(image: np.ndarray, regions: Sequence[Region]) -> np.ndarray:
    """Return a small picture (H, W, 3); images are made smaller first, which is quicker."""
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size))
    rows = np.arange(size[1]) * height // size[1]
    columns = np.arange(size[0]) * width // size[0]
    shrunk = [r._replace(mask=r.mask[rows[:, None], columns]) for r in regions]
    picture = Image.fromarray(paint(small, shrunk))
    picture.thumbnail((_SIDE, _SIDE))
    return to_array(picture)
