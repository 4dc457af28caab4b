"""Pictures and result files of what an exported model sees."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, tee
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..formats.video.reading import Frame, VideoSource
from ..formats.video.writing import FolderWriter, open_writer
from ..painting import ContactSheet, paint
from ..results.files import PredictionFiles, TrackFile
from ..results.regions import choose_kind, regions_of
from .model import Runtime

MAX_OVERLAP = 0.6  # of objects in a frame: one name on an object


class Drawing:
    """An exported model that draws what it sees.

    Args:
        runtime: the model.
        kind: what is drawn, "panoptic", "instance" or "semantic"; the richest by default.
        score_threshold: instances of a lower score are left out, in 0..1.
        window: frames of a video that a video model sees together; see `Runtime.predict_frames`.
    """

    def __init__(
        self,
        runtime: Runtime,
        kind: str | None = None,
        score_threshold: float = 0.5,
        window: int | None = None,
    ):
        self.runtime = runtime
        self.kind = kind
        self.score_threshold = score_threshold
        self.window = window

    def draw(
        self, image: np.ndarray, prediction: Mapping[str, Any], *, quick: bool = False
    ) -> np.ndarray:
        """Return a picture (nH, nW, 3), uint8, RGB, of an image (H, W, 3) and its prediction; see
        `mask2former.painting.paint`."""
        kind = choose_kind(prediction, self.kind)
        tracked = kind == "instance" and prediction["instances"].has("track_ids")
        threshold = self.score_threshold if kind == "instance" else 0.0
        regions = regions_of(prediction, self.runtime.classes, kind, threshold, tracked=tracked)
        return paint(image, regions, quick=quick)

    def draw_files(
        self,
        files: Sequence[str],
        output: str | os.PathLike[str],
        *,
        note: str = "",
        save_json: bool = False,
        on_error: Callable[[str, Exception], None] | None = None,
    ) -> list[Path]:
        """Draw images into a folder with a page that shows them.

        Args:
            files: images.
            output: folder; made if it is missing.
            note: text for the head of the page.
            save_json: write the results, too; see `PredictionFiles`.
            on_error: is called for images that cannot be read, which are left out; without it, the
                first of them is an error.

        Returns:
            the page, `index.html`, and the json files of the results.

        Raises:
            UserError, OSError: the kind is not there, or the folder cannot be written.
        """
        sheet = ContactSheet(output, "Mask2Former", ["Input", "Prediction"])
        results = PredictionFiles(output, self.runtime.classes, self.score_threshold)
        for file in files:
            try:
                image = self.runtime.to_rgb(file)
            except (OSError, ValueError) as error:
                if on_error is None:
                    raise
                on_error(file, error)
                continue
            prediction = self.runtime(image)
            sheet.add(Path(file).stem, {"Input": image, "Prediction": self.draw(image, prediction)})
            if save_json:
                results.add(file, prediction)
        return [sheet.write(note), *results.write()]

    def draw_video(
        self, source: VideoSource, output: str | os.PathLike[str], *, save_json: bool = False
    ) -> list[Path]:
        """Draw a video into a file or folder.

        Args:
            source: the video, see `open_source`; read no further ahead than a window.
            output: a video file, by its suffix, or else a folder for the frames.
            save_json: write the objects, too, see `TrackFile`; of a model for video.

        Returns:
            the paths of what was written.

        Raises:
            OSError, UserError: the video cannot be read, or the output written.
        """
        is_clip = self.runtime.metadata.kind == "clip"
        if save_json and not is_clip:
            raise UserError("--save-json of a video needs a model for video, which tracks objects")
        frames = _peeked(source)  # read before anything is written
        writer, path = open_writer(output, source.rate), Path(output)
        in_folder = isinstance(writer, FolderWriter)
        json = path / "tracks.json" if in_folder else path.with_suffix(".json")
        tracks = TrackFile(json, self.runtime.classes) if save_json else None
        count = 0
        try:
            for frame, prediction in self._predict(frames):
                writer.write(self.draw(frame.image, prediction, quick=True), frame)
                if tracks is not None:
                    tracks.add(frame.seconds, prediction)
                count += 1
        finally:
            if tracks is not None:
                tracks.close(keep=count > 0)
            written = writer.close()
        return [found for found in (written, json if tracks else None) if found is not None]

    def _predict(self, frames: Iterable[Frame]) -> Iterable[tuple[Frame, dict[str, Any]]]:
        ahead, behind = tee(frames)  # holds the frames of a window
        images = (frame.image for frame in ahead)
        results = self.runtime.predict_frames(
            images,
            window=self.window,
            score_threshold=self.score_threshold,
            max_overlap=MAX_OVERLAP,
        )
        return zip(behind, results)


def _peeked(source: Iterable[Frame]) -> Iterable[Frame]:
    """Return the frames, the first of which has been read."""
    frames = iter(source)
    return chain([next(frames)], frames)
