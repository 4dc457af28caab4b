"""Frames of video files, folders and cameras, one at a time, and files and folders of frames.

Video goes through PyAV (the extra "video"), which brings FFmpeg with it and needs no display.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...errors import MissingPackageError, UserError
from ..images import images_in, read_image
from ..pillow import LFS_POINTER, is_lfs_pointer

logger = logging.getLogger(__name__)

FOLDER_RATE = Fraction(10)  # frames a second of folders, which know none
_PYAV = (14, 1)  # the oldest that says how frames are turned
_COVERS = 0x400 | 0x800  # FFmpeg's dispositions of cover pictures and of thumbnails

OnError = Literal["stop", "skip"]


@dataclass(frozen=True)
class Frame:
    """A frame of a video.

    Attributes:
        image: (H, W, 3), uint8, RGB, upright.
        seconds: when it is shown, from the first frame on.
        name: what messages and files call it.
    """

    image: np.ndarray
    seconds: float
    name: str


@dataclass(frozen=True)
class VideoSource:
    """A video that can be read once, frame by frame.

    Attributes:
        name: what messages call it.
        rate: frames a second, on the average where they vary.
        length: number of frames as the file has it, which may be wrong; None where unknown.
        frames: starts the reading.
    """

    name: str
    rate: Fraction
    length: int | None
    frames: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames, all of one size.

        Raises:
            FileNotFoundError, UserError: there are none, one cannot be read, or it has another
                size than the first; says which. Those before it have come by then.
        """
        size = None
        for frame in self.frames():
            size = size or frame.image.shape[:2]
            if frame.image.shape[:2] != size:
                raise UserError(
                    f"{self.name}: {frame.name} is {_size(frame.image.shape)}, the frames before "
                    f"it are {_size(size)} (width x height): a video has one size. Scale the "
                    "frames to one size, or cut the video there."
                )
            yield frame
        if size is None:
            raise UserError(f"{self.name}: expected a video, found no frame in it.")


def open_source(source: str | os.PathLike[str], on_error: OnError = "stop") -> VideoSource:
    """Open a video file, a folder of frames, or a camera.

    Args:
        source: a path, or the index of a camera, such as "0".
        on_error: what to do with a frame that cannot be read: "stop" with an error, or "skip" it
            with a warning.

    Raises:
        FileNotFoundError: there is no such file or folder.
        UserError: it is no video, or a folder without images.
        ImportError: PyAV is missing.
    """
    text = os.fspath(source)
    if text.isdecimal() and not os.path.exists(text):
        return _camera(int(text))
    path = Path(text)
    if path.is_dir():
        return _folder(path, on_error)
    if not path.is_file():
        raise FileNotFoundError(
            f"{text}: expected a video file, a folder of frames or the index of a camera; there "
            "is no such file."
        )
    return _file(text, on_error)


def _folder(path: Path, on_error: OnError) -> VideoSource:
    files = images_in(path)
    if not files:
        raise UserError(
            f"{path}: expected a folder of frames, it has no image (.jpg, .png or another format "
            "that Pillow reads)."
        )

    def frames() -> Iterator[Frame]:
        for number, file in enumerate(files):
            try:
                image = read_image(str(file))
            except (OSError, UserError) as error:
                if on_error == "stop":
                    raise
                logger.warning("Left out a frame: %s", error)
            else:
                yield Frame(image, float(number / FOLDER_RATE), file.name)

    return VideoSource(str(path), FOLDER_RATE, len(files), frames)


def _file(path: str, on_error: OnError) -> VideoSource:
    container = _open(path, path)
    stream = _video_stream(container, path)
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    length = stream.frames or _estimate(container, rate)
    return VideoSource(path, rate, length, partial(_decode, container, path, rate, on_error))


def _camera(number: int) -> VideoSource:
    formats = {"linux": ("v4l2", f"/dev/video{number}"), "darwin": ("avfoundation", str(number))}
    name = f"camera {number}"
    if sys.platform not in formats:
        raise UserError(f"{name}: cameras can be read on Linux and macOS, not on {sys.platform}.")
    form, device = formats[sys.platform]
    if form == "v4l2" and not os.path.exists(device):
        raise FileNotFoundError(f"{name}: there is no {device}; is the camera connected?")
    container = _open(device, name, format=form)
    rate = _video_stream(container, name).average_rate or Fraction(30)
    return VideoSource(name, rate, None, partial(_decode, container, name, rate, "skip"))


def import_av() -> Any:
    """Return PyAV, quiet; raise ImportError with what to install."""
    wanted = ".".join(map(str, _PYAV))
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"video needs PyAV: pip install av ({wanted} or newer)"
        ) from error
    if tuple(map(int, re.findall(r"\d+", av.__version__)[:2])) < _PYAV:
        raise MissingPackageError(
            f"video needs PyAV {wanted} or newer, {av.__version__} is installed: "
            f"pip install 'av>={wanted}'"
        )
    # What matters is raised. With any level, decoding threads wait for the lock of Python.
    av.logging.set_level(None)
    return av


def _open(path: str, name: str, **options: Any) -> Any:
    av = import_av()
    try:
        return av.open(path, **options)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        if os.path.isfile(path):
            with open(path, "rb") as file:
                reason = LFS_POINTER if is_lfs_pointer(file.read(64)) else reason
        raise UserError(f"{name}: cannot be read as video ({reason}).") from error


def _video_stream(container: Any, name: str) -> Any:
    films = [s for s in container.streams.video if not s.disposition.value & _COVERS]
    if not films:
        alone = "sound with a cover picture" if container.streams.video else "no video stream"
        raise UserError(f"{name}: expected a video, the file has {alone}.")
    stream = films[0]
    if stream.codec_context is None:
        raise UserError(f"{name}: no decoder for its video stream is known to FFmpeg.")
    stream.thread_type = "AUTO"
    return stream


def _estimate(container: Any, rate: Fraction) -> int | None:
    seconds = container.duration and container.duration / 1e6  # in microseconds
    return round(seconds * rate) if seconds else None


def _decode(container: Any, name: str, rate: Fraction, on_error: OnError) -> Iterator[Frame]:
    """Yield decoded frames with their times, which always grow, whatever the file says."""
    number, first, last = 0, None, -1 / float(rate)
    for frame in _decoded(container, name, on_error):
        first = frame.time if first is None else first
        seconds = last + 1 / float(rate) if frame.time is None else frame.time - (first or 0.0)
        if seconds <= last:
            seconds = last + 1 / float(rate)
        image = frame.to_ndarray(format="rgb24")
        yield Frame(_upright(image, frame.rotation), seconds, f"frame {number}")
        number, last = number + 1, seconds


def _decoded(container: Any, name: str, on_error: OnError) -> Iterator[Any]:
    """Yield PyAV's frames; damaged parts raise, or are left out with one warning."""
    av, damaged = import_av(), 0
    packets = container.demux(_video_stream(container, name))
    with container:
        while True:
            try:
                decoded = next(packets).decode()
            except StopIteration:
                break
            except av.error.FFmpegError as error:
                if on_error == "stop":
                    raise UserError(f"{name}: damaged or truncated ({error.strerror}).") from error
                damaged += 1
                if isinstance(error, av.error.EOFError):
                    break
                continue
            yield from decoded
    if damaged:
        logger.warning("%s: left out %d damaged parts", name, damaged)


def _upright(image: np.ndarray, rotation: int) -> np.ndarray:
    """Turn an image as the file says that it is to be shown, by degrees counterclockwise."""
    turns = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
