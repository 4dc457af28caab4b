"""Reads a video, draws what a model sees in it, and writes it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..formats.video_reading import Frame, VideoSource
from ..formats.video_writing import FolderWriter, VideoWriter, open_writer
from ..visualization import choose_kind, draw, semantic_labels
from .track_file import TrackFile
from .video import VideoPredictor

__all__ = ["DrawnVideo", "draw_video", "draw_video_file"]

_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"


@dataclass
class DrawnVideo:
    """What came of drawing a video.

    Attributes:
        frames: number of frames written.
        seconds: that it took.
        paths: what was written; empty where there was no frame.
        interrupted: whether it was ended before the video was.
        error: what else ended it, or None.
    """

    frames: int = 0
    seconds: float = 0.0
    paths: list[Path] = field(default_factory=list)
    interrupted: bool = False
    error: Exception | None = None


def draw_video_file(
    predictor: VideoPredictor,
    source: VideoSource,
    output: str | os.PathLike[str],
    *,
    kind: str | None = None,
    label_threshold: float = 0.0,
    save_json: bool = False,
) -> DrawnVideo:
    """Draw a video into a file or folder, which are complete whatever ends it.

    Args:
        predictor, source, kind, label_threshold: as for `draw_video`.
        output: a video file, by its suffix, or else a folder for the frames.
        save_json: write the objects too, see `TrackFile`: beside the file, or to ``tracks.json`` in
            the folder.

    Raises:
        OSError, ValueError, ImportError: the output cannot be written.
    """
    writer, drawn = open_writer(output, source.rate), DrawnVideo()
    is_folder = isinstance(writer, FolderWriter)
    beside = Path(output, "tracks.json") if is_folder else Path(output).with_suffix(".json")
    tracks = TrackFile(beside, predictor.metadata) if save_json else None
    start = time.monotonic()
    settings = {"kind": kind, "label_threshold": label_threshold, "tracks": tracks}
    try:
        for drawn.frames in draw_video(predictor, source, writer, **settings):
            pass
    except KeyboardInterrupt:
        drawn.interrupted = True
    except (OSError, ValueError) as error:
        drawn.error = error
    finally:
        drawn.seconds = time.monotonic() - start
        if tracks is not None:
            tracks.close(keep=drawn.frames > 0)
        path = writer.close()
    if path is not None:
        drawn.paths = [path, beside] if save_json else [path]
    return drawn


def draw_video(
    predictor: VideoPredictor,
    source: VideoSource,
    writer: VideoWriter,
    *,
    kind: str | None = None,
    label_threshold: float = 0.0,
    tracks: TrackFile | None = None,
) -> Iterator[int]:
    """Draw a video frame by frame, with a progress bar on a terminal.

    Args:
        predictor: takes arrays as RGB.
        source: is read as far ahead as the predictor's window.
        writer: gets the pictures; is not closed.
        kind: what to draw; see `draw`.
        label_threshold: least share of a pixel's best class in a semantic result, in 0..1.
        tracks: gets the objects; is not closed.

    Yields:
        the number of frames written so far, after each.

    Raises:
        OSError, ValueError: the source cannot be read on, once all that was read is written; or
            as `VideoPredictor`, `draw` and the writer.
    """
    errors: list[Exception] = []
    ahead, behind = tee(_until_error(source, errors))  # holds the frames of a window
    try:
        results = predictor(frame.image for frame in ahead)
    except ValueError as error:
        raise errors[0] if errors else error from None
    with tqdm(total=source.length, unit="frame", bar_format=_BAR, disable=None) as bar:
        for number, (result, frame) in enumerate(zip(results, behind), start=1):
            chosen = choose_kind(result, kind)
            threshold = label_threshold if chosen == "semantic" else 0.0
            picture = draw(frame.image, result, predictor.metadata, chosen, threshold, tracked=True)
            writer.write(picture, frame)
            if tracks is not None:
                tracks.add(frame.seconds, *_for_file(result, label_threshold))
            bar.update()
            yield number
    if errors:
        raise errors[0]


def _until_error(source: Iterable[Frame], errors: list[Exception]) -> Iterator[Frame]:
    """The frames up to an error, which is kept for later."""
    try:
        yield from source
    except (OSError, ValueError) as error:
        errors.append(error)


def _for_file(result: dict[str, Any], threshold: float) -> tuple[dict[str, Any], Any]:
    labels = None
    if "sem_seg" in result and not {"panoptic_seg", "instances"} & result.keys():
        labels = semantic_labels(result["sem_seg"], threshold).numpy()
    return result, labels
