"""Apply a drawn chain of augmentations to an image and to everything annotated on it.

detectron2's transforms are kept, and with them their random numbers and options. What is ours is
how a chain runs: label maps are sampled once however long it is, and images by faster kernels.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform
from PIL import Image

from ..errors import UserError
from ..formats.images import read_annotated

Size = tuple[int, int]  # H, W in pixels
Axes = tuple[np.ndarray, np.ndarray]  # rows and columns of the source

# Augmentations that look at the size of the image, and perhaps at labels, but at no pixel; and
# transforms that leave each pixel's row and column independent of each other.
_DRAWN_BY_SIZE = {T.Resize, T.ResizeShortestEdge, T.ResizeScale, T.FixedSizeCrop, T.RandomFlip}
_DRAWN_BY_SIZE |= {T.RandomCrop, T.RandomCrop_CategoryAreaConstraint}
_SEPARABLE = {T.HFlipTransform, T.VFlipTransform, T.ResizeTransform, T.CropTransform}
_RESIZES = (T.Resize, T.ResizeShortestEdge, T.ResizeScale)
_COLOUR = {T.NoOpTransform, T.BlendTransform, ColorAugSSDTransform}


class Geometry:
    """A chain of transforms that was drawn for one image.

    Args:
        transforms: in the order in which they apply.
        size: (H, W) of what they apply to.
        image: the transformed image, where drawing had to make it already.
    """

    def __init__(
        self, transforms: Sequence[T.Transform], size: Size, image: np.ndarray | None = None
    ) -> None:
        self.transforms = T.TransformList(list(transforms)).transforms  # flattens lists in it
        self.size = size
        self._image = image
        self._axes: dict[bool, Axes | None] = {}

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        """Transform an image (H, W, C), uint8 in [0, 255], to (H', W', C).

        Bilinear resizing is torch's, which has the filter of Pillow's and takes a third of the
        time; one value in a thousand differs, by 1.
        """
        if self._image is not None:
            return self._image
        for transform in self.transforms:
            image = _apply_to_image(transform, image)
        return image

    def apply_labels(
        self, labels: np.ndarray, *, corner: bool = False, fill: int = 0
    ) -> np.ndarray:
        """Transform a map of integers (H, W), taking the nearest pixel, to (H', W').

        Args:
            labels: any integer type.
            corner: resize as torch's mode "nearest" does, which measures from the corner of a pixel
                and not from its centre. The published mappers do so with semantic maps (since they
                hold them as floats) and with no other.
            fill: for pixels that come from outside of the map.
        """
        axes = self._source_axes(corner)
        if axes is not None:
            return labels.take(axes[1], axis=1).take(axes[0], axis=0)
        dtype = labels.dtype
        if corner:
            labels = labels.astype(np.float64)
        elif dtype.itemsize > 1:  # not all transforms take such: byte by byte
            parts = [(labels >> 8 * k).astype(np.uint8) for k in range(dtype.itemsize)]
            parts = [self.apply_labels(p, fill=fill >> 8 * k & 255) for k, p in enumerate(parts)]
            return sum(part.astype(dtype) << 8 * k for k, part in enumerate(parts))
        for transform in self.transforms:
            if isinstance(transform, T.PadTransform):  # its own fill differs between versions
                sides = ((transform.y0, transform.y1), (transform.x0, transform.x1))
                labels = np.pad(labels, sides, constant_values=fill)
            else:
                labels = transform.apply_segmentation(labels)
        return labels.astype(dtype, copy=False)

    def apply_points(self, points: np.ndarray) -> np.ndarray:
        """Transform points (P, 2) of x, y in pixels; crops move them and drop none."""
        points = np.array(points, dtype=np.float64)
        for transform in self.transforms:
            points = transform.apply_coords(points)
        return points

    def _source_axes(self, corner: bool) -> Axes | None:
        """Return the row and column of the source that each row and column of the result shows.

        None where rows and columns depend on each other (rotation) or on nothing (padding).
        """
        if corner not in self._axes:
            separable = all(type(t) in _SEPARABLE | _COLOUR for t in self.transforms)
            axes = (np.arange(self.size[0]), np.arange(self.size[1])) if separable else None
            for transform in self.transforms if axes is not None else ():
                axes = _apply_to_axes(transform, axes, corner)
            self._axes[corner] = axes
        return self._axes[corner]


def draw(
    augmentations: Sequence[T.Augmentation | T.Transform],
    image: np.ndarray,
    labels: np.ndarray | None = None,
) -> Geometry:
    """Draw every augmentation in turn, with the generators and in the order of detectron2.

    Args:
        augmentations: detectron2 augmentations or fixed transforms.
        image: (H, W, C) uint8.
        labels: (H, W) classes of the pixels, for crops that look at them.

    Raises:
        UserError: an augmentation needs ``labels`` and there are none.
    """
    size = (image.shape[0], image.shape[1])
    drawn_by_size = _DRAWN_BY_SIZE | _SEPARABLE | _COLOUR
    if not all(type(augmentation) in drawn_by_size for augmentation in augmentations):
        aug_input = T.AugInput(image, sem_seg=None if labels is None else labels.astype(np.float64))
        safe = [_SafeResize(a) if isinstance(a, _RESIZES) else a for a in augmentations]
        drawn = T.AugmentationList(safe)(aug_input)
        return Geometry(drawn.transforms, size, aug_input.image)
    transforms: list[T.Transform] = []
    current = size
    for augmentation in augmentations:
        transform = augmentation
        if isinstance(augmentation, T.Augmentation):
            arguments = [np.broadcast_to(np.uint8(0), (*current, 3))]  # a size without memory
            if isinstance(augmentation, T.RandomCrop_CategoryAreaConstraint):
                arguments.append(_labels_for_crop(augmentation, transforms, size, labels))
            transform = at_least_a_pixel(augmentation.get_transform(*arguments))
        transforms.append(transform)
        current = _size_after(transform, current)
    return Geometry(transforms, size)


def to_planes(image: np.ndarray, size: Size, fill: float) -> torch.Tensor:
    """Copy an image (H, W, C) into the upper left of a tensor (C, *size) filled with ``fill``."""
    height, width = image.shape[:2]
    planes = cv2.split(image)
    result = np.empty((len(planes), *size), image.dtype)
    if size != (height, width):
        result[:, height:] = fill
        result[:, :height, width:] = fill
    for target, plane in zip(result, planes):
        target[:height, :width] = plane
    return torch.from_numpy(result)


class FrameFiles(Sequence):
    """The frames of a video, each read and transformed when it is asked for, and not kept.

    Args:
        file_names: T paths.
        geometry: the transforms; for frames of its ``size``.
        image_format: channels, "RGB" or "BGR".
        exif_rotation: see `read_photo`.
    """

    def __init__(
        self,
        file_names: Sequence[str],
        geometry: Geometry,
        image_format: str,
        exif_rotation: bool = True,
    ) -> None:
        self.file_names = list(file_names)
        self.geometry = geometry
        self.image_format = image_format
        self.exif_rotation = exif_rotation

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, index):
        """Return frame (C, H, W) uint8 at an index; FrameFiles for a slice.

        Raises:
            FileNotFoundError, UserError: it cannot be read or has another size; names the file.
        """
        if isinstance(index, slice):
            files = self.file_names[index]
            return FrameFiles(files, self.geometry, self.image_format, self.exif_rotation)
        path, size = self.file_names[index], dict(zip(("height", "width"), self.geometry.size))
        image = read_annotated(size, path, self.image_format, exif_rotation=self.exif_rotation)
        image = self.geometry.apply_image(image)
        return to_planes(image, image.shape[:2], 0)


def _labels_for_crop(
    crop: T.RandomCrop_CategoryAreaConstraint,
    transforms: Sequence[T.Transform],
    size: Size,
    labels: np.ndarray | None,
) -> np.ndarray | None:
    if crop.single_category_max_area >= 1.0:
        return None  # it does not look at them
    if labels is None:
        raise UserError(
            "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA below 1 needs a semantic map of every image; "
            "add them to the dataset or set it to 1.0"
        )
    return Geometry(transforms, size).apply_labels(labels, corner=True)


class _SafeResize(T.Augmentation):
    """Another augmentation, whose resizing leaves a pixel."""

    def __init__(self, resize: T.Augmentation) -> None:
        super().__init__()
        self.resize = resize

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return at_least_a_pixel(self.resize.get_transform(image))


def at_least_a_pixel(transform: T.Transform) -> T.Transform:
    """Fix resizing to nothing, which a small scale makes of a very long and thin image."""
    if isinstance(transform, T.ResizeTransform):
        transform.new_h, transform.new_w = max(transform.new_h, 1), max(transform.new_w, 1)
    return transform


def _size_after(transform: T.Transform, size: Size) -> Size:
    for part in transform.transforms if isinstance(transform, T.TransformList) else [transform]:
        if isinstance(part, T.ResizeTransform):
            size = (int(part.new_h), int(part.new_w))
        elif isinstance(part, T.CropTransform):
            size = (min(part.h, size[0] - part.y0), min(part.w, size[1] - part.x0))
        elif isinstance(part, T.PadTransform):
            size = (size[0] + part.y0 + part.y1, size[1] + part.x0 + part.x1)
    return size


def _apply_to_image(transform: T.Transform, image: np.ndarray) -> np.ndarray:
    if isinstance(transform, (T.HFlipTransform, T.VFlipTransform)):
        return cv2.flip(image, int(isinstance(transform, T.HFlipTransform))).reshape(image.shape)
    if isinstance(transform, T.ResizeTransform) and transform.interp == Image.BILINEAR:
        size = (int(transform.new_h), int(transform.new_w))
        if image.dtype == np.uint8 and image.shape[:2] != size:
            return _resize(image, size)
    return transform.apply_image(image)


def _resize(image: np.ndarray, size: Size) -> np.ndarray:
    writeable = image if image.flags.writeable else image.copy()  # from_numpy wants it so
    batch = torch.from_numpy(writeable)[None].permute(0, 3, 1, 2)  # channels last, and stays so
    resized = F.interpolate(batch, size, mode="bilinear", antialias=True, align_corners=False)
    return resized.permute(0, 2, 3, 1)[0].contiguous().numpy()


def _apply_to_axes(transform: T.Transform, axes: Axes, corner: bool) -> Axes:
    rows, columns = axes
    if isinstance(transform, T.HFlipTransform):
        return rows, columns[::-1]
    if isinstance(transform, T.VFlipTransform):
        return rows[::-1], columns
    if isinstance(transform, T.ResizeTransform):
        nearest = _nearest_corner if corner else _nearest_centre
        return rows[nearest(len(rows), transform.new_h)], columns[
            nearest(len(columns), transform.new_w)
        ]
    if isinstance(transform, T.CropTransform):
        y0, x0 = transform.y0, transform.x0
        return rows[y0 : y0 + transform.h], columns[x0 : x0 + transform.w]
    return axes


def _nearest_centre(old: int, new: int) -> np.ndarray:
    """Return the old index of each of ``new`` ones, by Pillow, to agree with it in every tie."""
    ramp = Image.fromarray(np.arange(old, dtype=np.int32)[None])
    return np.asarray(ramp.resize((int(new), 1), Image.NEAREST))[0]


def _nearest_corner(old: int, new: int) -> np.ndarray:
    """Return the same by torch's mode "nearest"."""
    ramp = torch.arange(old, dtype=torch.float64)[None, None]  # as published: rounds otherwise
    return F.interpolate(ramp, int(new), mode="nearest")[0, 0].long().numpy()
