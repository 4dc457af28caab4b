"""What a page does, without the page: reading, predicting, merging again, files."""

import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ...config.architecture import meta_architecture
from ...errors import UnsupportedError, UserError
from ...results.segments import Segments, only, segments_of
from ..demo import Demo
from ..image import Predictor
from ..masks import MaskPredictor
from ..video import VideoPredictor
from .downloads import segments_json, write_downloads
from .outputs import ImageSegmenter, Outputs, Thresholds
from .uploads import Limits, Photos

_MAX_PROMPTS = 100  # of a photo: each takes a mask of its size


@dataclass(frozen=True)
class View:
    """An image as somebody sees it: what the network made of it, merged with thresholds.

    Attributes:
        name: of the image's file.
        prediction: what the model returns.
        folder: of files to take along; deleted when nothing shows the image any more.
    """

    name: str
    outputs: Outputs
    thresholds: Thresholds
    prediction: dict[str, Any]
    segments: Segments
    folder: tempfile.TemporaryDirectory = field(repr=False)

    @property
    def image(self) -> np.ndarray:
        """The image (H, W, 3), uint8, RGB."""
        return self.outputs.image


class Service:
    """A model behind a page, for many users, one at a time.

    Args:
        predictor: as `build_predictor` returns it.
        limits: of what users send.
        photos: that the page offers.
        folder: for all files that are written.

    Raises:
        UnsupportedError: the model is one whose results are not merged from queries.
    """

    def __init__(
        self, predictor: Predictor, limits: Limits, photos: Photos, folder: str | Path
    ) -> None:
        self.segmenter = ImageSegmenter(predictor)
        self.predictor = predictor
        self.limits, self.photos, self.folder = limits, photos, Path(folder)
        self.takes_videos = isinstance(predictor, VideoPredictor) and (
            predictor.is_video_model or self.segmenter.can_segment
        )
        if not (self.segmenter.can_segment or self.segmenter.names_masks or self.takes_videos):
            raise UnsupportedError(
                "the page shows models whose queries are merged (MaskFormer, VideoMaskFormer, "
                f"MaskClassifier), got {predictor.cfg.MODEL.META_ARCHITECTURE}; use demo/demo.py"
            )

    @property
    def thresholds(self) -> Thresholds:
        """Those of the config, where it has them."""
        test = self.predictor.cfg.MODEL.MASK_FORMER.TEST
        return Thresholds(test.OBJECT_MASK_THRESHOLD, test.OVERLAP_THRESHOLD)

    def segment(self, path: str | Path, thresholds: Thresholds) -> View:
        """Run the network on a photo.

        Raises:
            UserError, OSError: it cannot be read, or not be merged.
        """
        outputs = self.segmenter.segment(self.limits.read_photo(path))
        return self._view(Path(path).name, outputs, thresholds)

    def name_masks(
        self, path: str | Path, points: list[Any], boxes: list[Any], thresholds: Thresholds
    ) -> View:
        """Name what is at points and in boxes of a photo, see `ImageSegmenter.name_masks`.

        Raises:
            UserError, OSError: it cannot be read, or the prompts do not fit.
        """
        if not isinstance(points, list) or not isinstance(boxes, list):
            raise UserError("expected lists of points and of boxes")
        if len(points) + len(boxes) > _MAX_PROMPTS:
            raise UserError(
                f"expected {_MAX_PROMPTS} points and boxes at most, got {len(points) + len(boxes)}"
            )
        image = self.limits.read_photo(path)
        return self._view(
            Path(path).name, self.segmenter.name_masks(image, points, boxes), thresholds
        )

    def merge(self, view: View, thresholds: Thresholds) -> View:
        """Return the same image with other thresholds; the network does not run."""
        if thresholds == view.thresholds:
            return view
        prediction, segments = self._merged(view.outputs, thresholds)
        changes = {"thresholds": thresholds, "prediction": prediction, "segments": segments}
        return replace(view, **changes)

    def json(self, view: View) -> dict[str, Any]:
        """Return all segments, as `segments_json`, with the name of the file."""
        return {"file_name": view.name, **segments_json(view.segments)}

    def downloads(self, view: View, on: Mapping[str, Collection[int]]) -> list[Path]:
        """Write the files of `write_downloads` in the place of those before.

        Args:
            on: numbers of the segments that they have, by kind.
        """
        for path in Path(view.folder.name).iterdir():
            shutil.rmtree(path)
        folder = Path(tempfile.mkdtemp(dir=view.folder.name))
        what = (view.name, view.image, view.prediction, only(view.segments, on))
        metadata, threshold = self.predictor.metadata, view.thresholds.semantic
        return write_downloads(folder, *what, metadata, threshold)

    def video(self, path: str | Path, thresholds: Thresholds) -> tuple[Path, Path]:
        """Draw a video; return the drawn one and a json file of its objects, see `TrackFile`.

        Raises:
            UserError, OSError: it cannot be read to its end, is too long or too large.
        """
        source = self.limits.open_video(path)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        target = folder / f"{Path(path).stem[:60]}_drawn.mp4"
        options = {"score_threshold": thresholds.score, "label_threshold": thresholds.semantic}
        demo = Demo(self.predictor, **options)
        with self.segmenter.thresholds(thresholds):
            self.predictor.score_threshold = thresholds.score
            drawn = demo.draw_video(source, target, save_json=True)
        if drawn.error is not None or not drawn.paths:
            shutil.rmtree(folder)
            raise drawn.error or UnsupportedError(f"{source.name}: drawing was interrupted")
        video, tracks = drawn.paths
        return video, tracks

    def _view(self, name: str, outputs: Outputs, thresholds: Thresholds) -> View:
        prediction, segments = self._merged(outputs, thresholds)
        folder = tempfile.TemporaryDirectory(dir=self.folder)
        return View(name, outputs, thresholds, prediction, segments, folder)

    def _merged(self, outputs: Outputs, thresholds: Thresholds) -> tuple[dict[str, Any], Segments]:
        prediction = self.segmenter.merge(outputs, thresholds)
        metadata = self.predictor.metadata
        return prediction, segments_of(prediction, metadata, thresholds.semantic)


def build_predictor(cfg: CfgNode, sam: str | None = None) -> Predictor:
    """Return the predictor of a config that a `Service` needs.

    Args:
        sam: folder of SAM's weights, for a model that names masks.

    Raises:
        UserError, OSError: the model or its weights cannot be used.
    """
    if meta_architecture(cfg) == "MaskClassifier":
        return MaskPredictor(cfg, array_format="RGB", sam=sam)
    return VideoPredictor(cfg, array_format="RGB", max_overlap=0.6)
