"""Images as they come, made into what an exported model takes."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..formats.images import read_image, to_array
from ..formats.pixels import check_array, no_image
from .metadata import Metadata
from .resizing import Canvas, Size, resize_image, shortest_edge

ImageLike = str | os.PathLike | Image.Image | np.ndarray


def to_rgb(image: ImageLike, exif_rotation: bool = True) -> np.ndarray:
    """Return (H, W, 3) uint8, RGB, of a file, a PIL image, or an array in RGB.

    Args:
        image: arrays are (H, W, 3) or (H, W), of uint8 in 0..255 or scaled as `to_8_bits` does.
        exif_rotation: turn files and PIL images upright as their EXIF tag says.

    Raises:
        FileNotFoundError: the file is missing.
        TypeError: it is none of these.
        UserError: the file is no image, or the array has another shape or type.
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image, exif_rotation=exif_rotation)
    if isinstance(image, Image.Image):
        return to_array(image, exif_rotation=exif_rotation)
    if not isinstance(image, np.ndarray):
        raise no_image(image)
    return check_array(image)


def to_batch(
    images: Sequence[np.ndarray], metadata: Metadata, dtype: type[np.generic]
) -> tuple[np.ndarray, list[Canvas]]:
    """Resize images and lay them on one canvas.

    Args:
        images: (H, W, 3), uint8, RGB, of any sizes.
        metadata: says how to resize, the order of the channels, and what the canvas is.
        dtype: of the batch. In uint8, what is padded has the mean rounded.

    Returns:
        (B, 3, H, W), and the sizes that each image passes through.
    """
    resized, sizes = [], []
    for image in images:
        size = shortest_edge(image.shape[:2], metadata.min_size, metadata.max_size)
        resized.append(resize_image(image, size))
        sizes.append((size, image.shape[:2]))
    padded = canvas_of([size for size, _ in sizes], metadata.size_divisibility)
    batch = np.empty((len(images), 3, *padded), dtype)
    mean = np.array(metadata.pixel_mean, np.float32)
    batch[:] = (mean if dtype == np.float32 else mean.round())[:, None, None]
    order = slice(None) if metadata.channel_order == "RGB" else slice(None, None, -1)
    for target, image in zip(batch, resized):
        target[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)[order]
    return batch, [Canvas(padded, size, output) for size, output in sizes]


def of_one_canvas(images: Sequence[np.ndarray], metadata: Metadata) -> list[list[int]]:
    """Return the indices of images in groups whose canvases are equal, so that no image is padded
    for another's sake."""
    groups: dict[Size, list[int]] = {}
    for i, image in enumerate(images):
        size = shortest_edge(image.shape[:2], metadata.min_size, metadata.max_size)
        groups.setdefault(canvas_of([size], metadata.size_divisibility), []).append(i)
    return list(groups.values())


def canvas_of(sizes: Sequence[Size], divisibility: int) -> Size:
    """Return the smallest canvas (H, W) for images, each side a multiple of a number."""
    height, width = (max(side) for side in zip(*sizes))
    return -(-height // divisibility) * divisibility, -(-width // divisibility) * divisibility
