"""Which files a page takes, how large they may be, and reading them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...formats.images import images_in, read_image
from ...formats.pillow import image_size, image_suffixes
from ...formats.video.reading import Frame, VideoSource, open_source


@dataclass(frozen=True)
class Limits:
    """How large what users send may be.

    Attributes:
        upload: bytes of a file.
        pixels: of a photo or frame.
        frames: of a video.
    """

    upload: int = 100 * 2**20
    pixels: int = 16_000_000
    frames: int = 300

    def read_photo(self, path: str | os.PathLike[str]) -> np.ndarray:
        """Read a photo, (H, W, 3), uint8, RGB.

        Raises:
            UserError, OSError: it is none, cannot be read, or is too large; messages have its name
                without its folder.
        """
        self._check_bytes(path)
        name = Path(path).name
        try:
            self._check_pixels(name, image_size(path))
            return read_image(path)
        except UserError as error:
            hint = ""
            if Path(path).suffix.lower() not in image_suffixes():
                hint = "; if it is a video, drop it on the page for videos"
            raise UserError(_named(error, path) + hint) from error

    def open_video(self, path: str | os.PathLike[str]) -> VideoSource:
        """Open a video; its frames raise a UserError where there are too many or they are too
        large.

        Raises:
            UserError, OSError: it is none, or too long; messages have its name without its folder.
        """
        self._check_bytes(path)
        name = Path(path).name
        try:
            source = open_source(path)
        except UserError as error:
            raise UserError(_named(error, path)) from error
        if source.length is not None and source.length > self.frames:
            raise self._too_long(name)
        return replace(source, name=name, frames=lambda: self._frames(source, name))

    def _frames(self, source: VideoSource, name: str) -> Iterator[Frame]:
        for number, frame in enumerate(source.frames()):
            if number == self.frames:
                raise self._too_long(name)
            self._check_pixels(name, frame.image.shape)
            yield frame

    def _too_long(self, name: str) -> UserError:
        return UserError(
            f"{name}: expected a video of {self.frames} frames at most (--max-frames): cut it, or "
            "predict it with python -m mask2former.predict"
        )

    def _check_bytes(self, path: str | os.PathLike[str]) -> None:
        size = os.stat(path).st_size
        if size > self.upload:
            raise UserError(
                f"{Path(path).name}: expected {self.upload:,} bytes at most (--max-upload), got "
                f"{size:,}"
            )

    def _check_pixels(self, name: str, shape: tuple[int, ...]) -> None:
        height, width = shape[:2]
        if height * width > self.pixels:
            raise UserError(
                f"{name}: expected {self.pixels:,} pixels at most (--max-pixels), got "
                f"{width}x{height}: scale it down"
            )


class Photos:
    """The photos that a page offers: those of a folder.

    Args:
        folder: None for none.

    Raises:
        UserError: it is no folder, or has no photo.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self._paths: dict[str, Path] = {}
        if folder is not None:
            if not Path(folder).is_dir():
                raise UserError(f"{folder}: expected a folder of photos, there is none")
            self._paths = {path.name: path for path in images_in(Path(folder))}
            if not self._paths:
                raise UserError(f"{folder}: expected a folder of photos, it has none")

    @property
    def names(self) -> list[str]:
        """What they are called, in natural order."""
        return list(self._paths)

    def __getitem__(self, name: str) -> Path:
        """Return the path of a photo by its name; no other file can be had so.

        Raises:
            UserError: there is no such name.
        """
        if name not in self._paths:
            raise UserError(f"there is no photo named {name!r}")
        return self._paths[name]


def _named(error: Exception, path: str | os.PathLike[str]) -> str:
    """Return the message of an error with the file's name in the place of its path."""
    return str(error).replace(os.fspath(path), Path(path).name)
