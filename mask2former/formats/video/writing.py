"""Write frames to a video file or a folder, both of use whenever the writing ends."""

import os
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..atomic import atomic_path
from ..images import image_suffixes, write_image
from ..names import short_name
from .reading import Frame, import_av

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov")  # which keep the time of each frame
_TICKS = 90_000  # of the clock of timestamps, in a second
_CODECS = ("libx264", "mpeg4")  # the first one that FFmpeg has


def open_writer(path: str | os.PathLike[str], rate: Fraction) -> "VideoFileWriter | FolderWriter":
    """Open a video file, by its suffix, or else a folder, which is made.

    Args:
        rate: frames a second.

    Raises:
        OSError: it cannot be written.
        UserError: another suffix than those of videos.
        ImportError: PyAV is missing.
    """
    path = Path(path)
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
        return VideoFileWriter(path, rate)
    if path.suffix.lower() in image_suffixes() | {".avi", ".gif", ".webm"}:
        raise UserError(
            f"{path}: expected a video file ({', '.join(VIDEO_SUFFIXES)}) or a folder for frames."
        )
    return FolderWriter(path)


class VideoFileWriter:
    """A video file that is written atomically: until it is complete it is a hidden file beside.

    Frames have the times of those that were read, so that
    variable rates stay as they are. There is no sound.
    """

    def __init__(self, path: Path, rate: Fraction):
        av = import_av()
        self._av, self._path, self._rate = av, path, rate
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        self._part = self._stack.enter_context(atomic_path(path))
        self._container: Any = self._stack.enter_context(av.open(str(self._part), "w"))
        self._stream: Any = None
        self._last = -1

    def write(self, picture: np.ndarray, frame: Frame) -> None:
        """Append a picture (H, W, 3), uint8, RGB, which is shown when `frame` is."""
        height, width = picture.shape[:2]
        if self._stream is None:
            self._stream = self._add_stream(height + height % 2, width + width % 2)
        if height % 2 or width % 2:  # codecs halve the resolution of colours
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        image = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        image.pts = self._last = max(round(frame.seconds * _TICKS), self._last + 1)
        image.time_base = Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(image))

    def close(self) -> Path | None:
        """Complete the file; return its path, or None where it has no frame and is deleted."""
        container, self._container = self._container, None
        if container is not None:
            with self._stack:  # closes the container, then gives the file its name
                if self._stream is None:
                    self._part.unlink()
                else:
                    container.mux(self._stream.encode(None))
        return self._path if self._stream is not None else None

    def _add_stream(self, height: int, width: int) -> Any:
        codec = next(name for name in _CODECS if name in self._av.codecs_available)
        stream = self._container.add_stream(codec, rate=self._rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        if codec == "libx264":
            stream.options = {"crf": "20", "preset": "veryfast"}
        else:
            stream.bit_rate = 8_000_000
        return stream


class FolderWriter:
    """A folder of JPEG files, with the names of the frames where these were files."""

    def __init__(self, path: Path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise FileExistsError(
                f"{path}: expected a folder or a video file ({', '.join(VIDEO_SUFFIXES)}) to "
                "write to, it is another file."
            ) from error
        self._path = path
        self._count = 0

    def write(self, picture: np.ndarray, frame: Frame) -> None:
        """Write a picture (H, W, 3), uint8, RGB, as a file."""
        name = Path(frame.name)
        stem = name.stem if name.suffix.lower() in image_suffixes() else f"{self._count:06d}"
        write_image(self._path / f"{short_name(stem, 4)}.jpg", picture, quality=92)
        self._count += 1

    def close(self) -> Path | None:
        """Return the folder, or None where nothing was written."""
        if self._count:
            return self._path
        with suppress(OSError):  # it may have held files before
            self._path.rmdir()
        return None
