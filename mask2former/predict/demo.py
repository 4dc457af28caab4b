"""Draw what a model sees in images and videos, for scripts, services and notebooks."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from tqdm import tqdm

from ..data.datasets.common import require_registered
from ..data.datasets.registered import load_dataset
from ..errors import UserError
from ..formats.names import short_name
from ..formats.video.reading import Frame, VideoSource
from ..formats.video.writing import FolderWriter, open_writer
from ..modeling.postprocessing.switches import switched
from ..ops.memory import is_out_of_memory
from ..painting import ContactSheet
from ..results.files import PredictionFiles, TrackFile
from ..visualization import choose_kind, draw, ground_truth, has_kind
from .drawn_video import DrawnVideo, until_error
from .image import ImageLike, Predictor
from .masks import MaskSource
from .saving import saved_as_it_goes
from .video import VideoPredictor

_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"

Drawn = tuple[dict[str, Any], np.ndarray]  # what is predicted, and its picture (nH, nW, 3), RGB


class Demo:
    """A predictor that draws what it sees.

    Example:
        >>> demo = Demo(Predictor(cfg, "model_final.pth", array_format="RGB"))
        >>> prediction, picture = demo(image)
        >>> demo.draw_files(["a.jpg", "b.jpg"], "drawn", save_json=True)
        >>> names = Demo(MaskPredictor(cfg, "classifier.pth", array_format="RGB"))
        >>> prediction, picture = names(image, masks=masks)
        >>> tracks = Demo(VideoPredictor(cfg, "video.pth", array_format="RGB"))
        >>> for prediction, picture in tracks.draw_frames(frames):
        ...     show(picture)
        >>> tracks.draw_video(open_source("clip.mp4"), "drawn.mp4", save_json=True)

    Attributes:
        images: files of the dataset's images, in its order.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        kind: str | None = None,
        score_threshold: float = 0.5,
        label_threshold: float = 0.0,
        dataset: str | None = None,
        masks: MaskSource | None = None,
    ):
        """
        Args:
            predictor: takes arrays as RGB: a `Predictor` or `MaskPredictor` for images, a
                `VideoPredictor` for videos.
            kind: what is drawn, one of `KINDS`; the richest by default.
            score_threshold: instances of a lower score are left out of pictures and result files of
                images, in 0..1. A `VideoPredictor` has its own.
            label_threshold: least fraction of a pixel's best class in a semantic result, in 0..1.
            dataset: a registered one, whose ground truth `draw_files` draws beside its images.
            masks: where `draw_files` takes the masks that a `MaskPredictor` names.

        Raises:
            UserError: a predictor for BGR, or a dataset that is not registered or is damaged.
            FileNotFoundError: a file of the dataset is missing.
        """
        if predictor.array_format != "RGB":
            raise ValueError(
                "Demo: expected a predictor with array_format='RGB', as pictures are RGB, got "
                f"{predictor.array_format!r}"
            )
        if dataset:
            require_registered(dataset)
        self.predictor = predictor
        self.kind = kind
        self.score_threshold = score_threshold
        self.label_threshold = label_threshold
        self.masks = masks
        self._truth_metadata = MetadataCatalog.get(dataset or "__unused")
        records = load_dataset(dataset) if dataset else []
        self.images: list[str] = [record["file_name"] for record in records]
        self._records = {os.path.realpath(record["file_name"]): record for record in records}

    def __call__(self, image: ImageLike, **given: Any) -> Drawn:
        """Predict and draw one image.

        Args:
            image: a file, a PIL image or an array in RGB, as for `Predictor`.
            given: `masks` and `scores`, or `prompts`, of a `MaskPredictor`.

        Returns:
            the prediction and its picture (nH, nW, 3), uint8, RGB, enlarged n times where the image
            is small.

        Raises:
            UserError, OSError: as the predictor and `draw`; or the predictor is one for videos.
        """
        if isinstance(self.predictor, VideoPredictor):
            raise ValueError("Demo: this predictor is one for videos: give frames to draw_frames")
        array = self.predictor.to_rgb(image)
        prediction = self.predictor(array, **given)
        return prediction, self._draw(array, prediction)

    def draw_frames(self, frames: Iterable[ImageLike]) -> Iterator[Drawn]:
        """Predict and draw the frames of one video.

        Args:
            frames: of one size; read once, in their order, not further ahead than a window.

        Returns:
            an iterator over their predictions and pictures, as `__call__` returns them.

        Raises:
            UserError, OSError: as `VideoPredictor` and `draw`; or the predictor is one for images.
        """
        if not isinstance(self.predictor, VideoPredictor):
            kind = type(self.predictor).__name__
            raise ValueError(f"Demo: the frames of a video need a VideoPredictor, got a {kind}")
        ahead, behind = tee(map(self.predictor.to_rgb, frames))  # holds the frames of a window
        predictions = self.predictor(ahead)
        return ((p, self._draw(image, p)) for p, image in zip(predictions, behind))

    def draw_files(
        self,
        files: Sequence[str],
        output: str | os.PathLike[str],
        *,
        note: str = "",
        save_json: bool = False,
        on_error: Callable[[str, Exception], None] | None = None,
        progress: bool = False,
    ) -> list[Path]:
        """Draw images into a folder with a page that shows them, beside their ground truth.

        Page and results are saved every half minute, and whatever ends the drawing.

        Args:
            files: images.
            output: folder; made if it is missing.
            note: text for the head of the page.
            save_json: write the results, too; see `PredictionFiles`.
            on_error: is called for images that are left out: those that cannot be read, or whose
                ground truth or masks cannot, and those that take more memory than there is; without
                it, the first of them is an error.
            progress: show a progress bar on a terminal.

        Returns:
            the page, `index.html`, and the json files of the results.

        Raises:
            UserError, OSError: as `__call__` and `on_error` say, or the folder cannot be written.
        """
        columns = ["Input", "Prediction"] + (["Ground truth"] if self.images else [])
        sheet = ContactSheet(output, "Mask2Former", columns)
        thresholds = (self.score_threshold, self.label_threshold)
        results = PredictionFiles(output, self.predictor.metadata, *thresholds)
        # Results are scored by the dataset's ids, which images from elsewhere lack.
        has_ids = all("image_id" in self._record(file) for file in files)
        with saved_as_it_goes(lambda: [sheet.write(note), *results.write()]) as after_image:
            for file in tqdm(files, unit="image", disable=None if progress else True):
                try:
                    with self._labels_only():
                        image, truth, prediction = self._predict(file)
                except (OSError, UserError, MemoryError, RuntimeError) as error:
                    if on_error is None or not _is_of_the_image(error):
                        raise
                    on_error(file, error)
                    continue
                sheet.add(Path(file).stem, self._pictures(image, prediction, truth))
                if save_json:
                    image_id = self._record(file)["image_id"] if has_ids else None
                    results.add(file, prediction, image_id)
                after_image()
        return [sheet.write(note), *results.write()]

    def draw_video(
        self,
        source: VideoSource,
        output: str | os.PathLike[str],
        *,
        save_json: bool = False,
        progress: bool = False,
    ) -> DrawnVideo:
        """Draw a video into a file or folder, which are complete whatever ends it.

        Args:
            source: the video, see `open_source`.
            output: a video file, by its suffix, or else a folder for the frames.
            save_json: write the objects, too, see `TrackFile`: beside the file, or to
                ``tracks.json`` in the folder.
            progress: show a progress bar on a terminal.

        Raises:
            OSError, UserError, ImportError: the output cannot be written.
        """
        writer, drawn = open_writer(output, source.rate), DrawnVideo()
        path = Path(output)
        beside = path / "tracks.json"
        if not isinstance(writer, FolderWriter):
            beside = path.with_name(f"{short_name(path.stem, 5)}.json")
        tracks = None
        if save_json:
            tracks = TrackFile(beside, self.predictor.metadata, self.label_threshold)
        errors: list[Exception] = []
        start = time.monotonic()
        try:
            with self._labels_only():
                for (prediction, picture), frame in self._draw_source(source, errors, progress):
                    writer.write(picture, frame)
                    if tracks is not None:
                        tracks.add(frame.seconds, prediction)
                    drawn.frames += 1
        except KeyboardInterrupt:
            drawn.interrupted = True
        except (OSError, UserError) as error:
            errors.append(error)
        finally:
            drawn.seconds = time.monotonic() - start
            if tracks is not None:
                tracks.close(keep=drawn.frames > 0)
            path = writer.close()
        if path is not None:
            drawn.paths = [path, beside] if save_json else [path]
        drawn.error = next(iter(errors), None)
        return drawn

    def _draw_source(
        self, source: VideoSource, errors: list[Exception], progress: bool
    ) -> Iterable[tuple[Drawn, Frame]]:
        """Return what is drawn and the frames, up to an error of the source, kept in `errors`."""
        ahead, behind = tee(until_error(source, errors))
        drawn = self.draw_frames(frame.image for frame in ahead)
        options = {"total": source.length, "unit": "frame", "bar_format": _BAR}
        return tqdm(zip(drawn, behind), disable=None if progress else True, **options)

    def _labels_only(self) -> AbstractContextManager:
        """Have the model compute the best class of pixels alone, where no more is asked for."""
        if self.label_threshold > 0:
            return nullcontext()
        return switched(self.predictor.model, semantic_output="labels")

    def _draw(self, image: np.ndarray, prediction: Mapping[str, Any]) -> np.ndarray:
        kind = choose_kind(prediction, self.kind)
        tracked = isinstance(self.predictor, VideoPredictor)
        threshold = 0.0 if tracked else self.score_threshold
        threshold = self.label_threshold if kind == "semantic" else threshold
        return draw(image, prediction, self.predictor.metadata, kind, threshold, tracked=tracked)

    def _record(self, file: str) -> dict[str, Any]:
        """Return what the dataset says about an image, which may be nothing."""
        return self._records.get(os.path.realpath(file), {})

    def _predict(self, file: str) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
        """Return an image (H, W, 3), RGB, its ground truth, which may be {}, and the prediction."""
        record = self._record(file)
        image = self.predictor.to_rgb(file, record)
        size, given = image.shape[:2], {}
        truth = ground_truth(record, self._truth_metadata, size) if record else {}
        if self.masks is not None:
            given = self.masks.of_image(file, size, record.get("image_id"), truth)
        return image, truth, self.predictor(image, **given)

    def _pictures(
        self, image: np.ndarray, prediction: Mapping[str, Any], truth: Mapping[str, Any]
    ) -> dict[str, np.ndarray]:
        """Draw a row of the page; the ground truth as the same kind if there is one."""
        pictures = {"Input": image, "Prediction": self._draw(image, prediction)}
        if truth:
            kind = choose_kind(prediction, self.kind)
            true_kind = kind if has_kind(truth, kind) else None
            pictures["Ground truth"] = draw(image, truth, self._truth_metadata, true_kind)
        return pictures


def _is_of_the_image(error: Exception) -> bool:
    """Tell whether an image is left out for an error, and the next one may be better."""
    return isinstance(error, OSError | UserError) or is_out_of_memory(error)
