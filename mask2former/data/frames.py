"""The frames of a video on disk, as a sequence that holds none of them."""

from collections.abc import Sequence

from ..formats.images import check_size, read_image
from .geometry import Geometry, to_planes


class FrameFiles(Sequence):
    """The frames of a video, each read and transformed when it is asked for, and not kept.

    Args:
        file_names: T paths.
        geometry: the transforms; for frames of its ``size``.
        image_format: channels, "RGB" or "BGR".
    """

    def __init__(self, file_names: Sequence[str], geometry: Geometry, image_format: str) -> None:
        self.file_names = list(file_names)
        self.geometry = geometry
        self.image_format = image_format

    def __len__(self) -> int:
        return len(self.file_names)

    def __getitem__(self, index):
        """Return frame (C, H, W) uint8 at an index; FrameFiles for a slice.

        Raises:
            FileNotFoundError, ValueError: it cannot be read or has another size; names the file.
        """
        if isinstance(index, slice):
            return FrameFiles(self.file_names[index], self.geometry, self.image_format)
        path = self.file_names[index]
        image = read_image(path, self.image_format)
        height, width = self.geometry.size
        check_size({"height": height, "width": width}, image.shape, path)
        image = self.geometry.apply_image(image)
        return to_planes(image, image.shape[:2], 0)
