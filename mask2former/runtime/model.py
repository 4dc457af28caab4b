"""From images to results with an exported model."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..formats.atomic import PathLike
from ..formats.images import images_in
from ..formats.pillow import set_max_pixels
from ..formats.pixels import no_image
from ..formats.video.reading import open_source
from ..tracks.windows import Windows
from . import metadata as file_metadata
from .clips import ClipRunner, with_ids
from .images import ImageLike, of_one_canvas, to_batch, to_rgb
from .metadata import Metadata
from .postprocessing.given_masks import GivenMasks, coverage_of
from .postprocessing.segmenting import Segmenter
from .session import Provider, Session

_VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
_SWITCHES = ("semantic_on", "panoptic_on", "instance_on")
# What cannot be replaced when a file is opened, as its graph has it.
_FIXED: Mapping[str, tuple[str, ...]] = {
    "": (),
    "semantic": (*_SWITCHES, "label_threshold"),
    "panoptic": (*_SWITCHES, "object_mask_threshold", "overlap_threshold"),
    "instance": (*_SWITCHES, "topk"),
}


class Runtime:
    """An exported model that takes images as they come, without torch and detectron2.

    Example:
        >>> runtime = Runtime("model.onnx")
        >>> ids, segments = runtime("street.jpg")["panoptic_seg"]
        >>> sure = Runtime("model.onnx", object_mask_threshold=0.9)

    Attributes:
        metadata: of the file, with the thresholds that are used.
        classes: the metadata that drawing and result files take: names, colours, category ids.
        providers: execution providers in use.
    """

    def __init__(
        self,
        path: PathLike,
        *,
        providers: Sequence[Provider] | None = None,
        threads: int = 0,
        verify: bool = True,
        label_threshold: float = 0.0,
        **changes: Any,
    ):
        """
        Args:
            path: an ONNX file of `python -m mask2former.export`.
            providers, threads: see `Session`.
            verify: compare the digest of the file, which reads all of it.
            label_threshold: least fraction of a pixel's scores that its label has, in 0..1.
            changes: values of the metadata to replace, such as `object_mask_threshold`,
                `overlap_threshold`, `topk`, `semantic_on`, `semantic_output`, `min_size`.

        Raises:
            FileNotFoundError: the file is missing.
            MissingPackageError: onnxruntime is missing.
            UserError: the file is of another kind or changed, a provider is not there, or a value
                cannot be used.
            TypeError: there is no such value.
        """
        self.metadata = _changed(file_metadata.read(path, verify=verify), changes)
        _require_changeable(self.metadata.postprocess, label_threshold, changes)
        set_max_pixels(self.metadata.max_pixels)
        self._segmenter = Segmenter(self.metadata, label_threshold)
        self._session = Session(path, self.metadata, providers, threads)
        self._clips = ClipRunner(self.metadata, self._session)
        self.providers = self._session.providers
        self.classes = classes_of(self.metadata)

    def __call__(self, images: ImageLike | Iterable[ImageLike], masks: Any = None) -> Any:
        """Predict one image, several in batches, or those of a folder or video one by one.

        Args:
            images: a file, a PIL image or an array (H, W, 3) or (H, W) in RGB, of uint8 in [0, 255]
                or scaled as `to_8_bits` does; a list of them, of any sizes; a folder, which is one
                of frames for a model for video; or a video file.
            masks: for a `MaskClassifier`, which names them: (N, H, W) bool; of a list, a list.

        Returns:
            a dict with those that are turned on of "panoptic_seg": ids (H, W), int32, 0 for void,
            and a list of dicts with `id`, `isthing`, `category_id`; "instances": `Instances`; and
            "sem_seg": scores (K, H, W), float32, or labels (H, W), int32, -1 for none, as
            `semantic_output` says. For a list, the list of them; for a
            folder, an iterator over them in the natural order of the names; for a video, what
            `predict_frames` returns.

        Raises:
            FileNotFoundError: a file is missing.
            TypeError: what came is none of these.
            UserError: a file is no image, an array has another shape or type, or the model is one
                for video: see `predict_clip`.
        """
        is_clip = self.metadata.kind == "clip"
        if isinstance(images, str | os.PathLike):
            path = Path(images)
            if path.suffix.lower() in _VIDEOS or (is_clip and path.is_dir()):
                return self.predict_frames(frame.image for frame in open_source(path))
            if path.is_dir():
                return self._folder(path)
        if is_clip:
            raise UserError("this model is one for video: give the frames to predict_clip")
        if isinstance(images, ImageLike):
            return self._predict([self.to_rgb(images)], [masks])[0]
        if not isinstance(images, Iterable) or isinstance(images, bytes | Mapping):
            raise no_image(images)
        arrays = [self.to_rgb(image) for image in images]
        masks = [None] * len(arrays) if masks is None else masks
        if len(masks) != len(arrays):
            raise UserError(f"expected masks for each of {len(arrays)} images, got {len(masks)}")
        return self._predict(arrays, masks) if arrays else []

    def predict_clip(self, frames: Iterable[ImageLike]) -> dict[str, Any]:
        """Predict the frames of one clip, T images of one size, with a video model.

        A clip that is longer than the window of the file is seen in windows whose tracks are
        joined; all its masks are kept in memory.

        Returns:
            "image_size" (H, W), "pred_scores", "pred_labels" and "pred_masks", a list of masks
            (T, H, W), bool, of the best tracks.

        Raises:
            UserError: no frames, frames of several sizes, or windows that cannot be; as well as
                what `__call__` raises.
        """
        if self.metadata.kind != "clip":
            raise UserError("this model is one for images: call it with one, or a list of them")
        return self._clips.predict(self._frames(frames))

    def predict_frames(
        self,
        frames: Iterable[ImageLike],
        *,
        window: int | None = None,
        overlap: int | None = None,
        score_threshold: float = 0.0,
        max_overlap: float = 1.0,
    ) -> Iterator[dict[str, Any]]:
        """Predict the frames of a video, one result for each, in their order, as `VideoPredictor`
        does.

        Args:
            frames: any number, read once and never further ahead than a window; for a video model
                of one size.
            window: frames that a video model sees together, 0 for all; None for the file's, or 16
                where that is 0.
            overlap: frames that a window shares with the one before; None for the file's, or what
                the window has room for.
            score_threshold: objects of a lower score are left out, in 0..1.
            max_overlap: IoU in a frame above which a video model leaves out what repeats a better
                object.

        Returns:
            an iterator over results: of a video model "instances" with `track_ids`, from 1 on; of
            a model for images what `__call__` returns, with `track_ids` and with ids of segments
            that stay with what overlaps in frames that follow each other.

        Raises:
            UserError, TypeError: as `predict_clip` and `__call__`.
        """
        images = self._frames(frames)
        own = self.metadata
        if own.kind != "clip":
            results = (self(image) for image in images)
            return with_ids(results, len(own.class_names), score_threshold)
        windows = Windows.of_stream(own.window, own.window_overlap, window, overlap)
        thresholds = {"score_threshold": score_threshold, "max_overlap": max_overlap}
        return self._clips.follow(images, windows, **thresholds)

    def _frames(self, frames: Iterable[ImageLike]) -> Iterator[np.ndarray]:
        if isinstance(frames, ImageLike):
            raise TypeError(f"expected the frames of a video, got {type(frames).__name__}")
        return map(self.to_rgb, frames)

    def to_rgb(self, image: ImageLike) -> np.ndarray:
        """Return (H, W, 3) uint8, RGB, of an image as `__call__` takes it."""
        return to_rgb(image, self.metadata.exif_rotation)

    def _folder(self, folder: Path) -> Iterator[dict[str, Any]]:
        files = images_in(folder)
        if not files:
            raise UserError(f"{folder}: expected a folder of images, it has none")
        return (self(file) for file in files)

    def _predict(
        self, arrays: Sequence[np.ndarray], masks: Sequence[np.ndarray | None]
    ) -> list[dict[str, Any]]:
        kind = self.metadata.kind
        if kind != "given_masks" and any(m is not None for m in masks):
            raise UserError("masks: this model finds its own masks, it takes none")
        results: list[dict[str, Any]] = [{}] * len(arrays)
        for members in of_one_canvas(arrays, self.metadata):
            found = self._predict_batch([arrays[i] for i in members], [masks[i] for i in members])
            for i, result in zip(members, found):
                results[i] = result
        return results

    def _predict_batch(
        self, arrays: Sequence[np.ndarray], masks: Sequence[np.ndarray | None]
    ) -> list[dict[str, Any]]:
        batch, canvases = to_batch(arrays, self.metadata, self._session.dtype)
        if self.metadata.kind == "given_masks":
            given = [GivenMasks(m, c.output) for m, c in zip(masks, canvases)]
            coverage = coverage_of(given, canvases)
            (logits,) = self._session(images=batch, masks=coverage)
            return [self._segmenter.name(*row) for row in zip(logits, given)]
        outputs = self._session(images=batch)
        return [self._segmenter(*row) for row in zip(*outputs, canvases)]


def classes_of(metadata: Metadata) -> dict[str, Any]:
    """Return names, colours and category ids under the names that detectron2's Metadata has."""
    names = list(metadata.class_names)
    classes: dict[str, Any] = {"name": "the model", "stuff_classes": names}
    if metadata.thing_ids:
        classes["thing_classes"] = [names[i] for i in metadata.thing_ids]
    if metadata.colors:
        classes["stuff_colors"] = [list(color) for color in metadata.colors]
    positions = {"thing": metadata.thing_ids, "stuff": range(len(names))}
    for kind, pairs in (("thing", metadata.thing_categories), ("stuff", metadata.stuff_categories)):
        ids = dict(pairs) if pairs else {i: i for i in positions[kind]}
        if ids:
            classes[f"{kind}_dataset_id_to_contiguous_id"] = ids
    return classes


def _changed(metadata: Metadata, changes: Mapping[str, Any]) -> Metadata:
    try:
        return replace(metadata, **changes)
    except TypeError as error:
        raise TypeError(f"Runtime: {error}; see mask2former.runtime.Metadata") from error


def _require_changeable(postprocess: str, label_threshold: float, changes: Mapping) -> None:
    wanted = {*changes, *(["label_threshold"] if label_threshold else [])}
    if fixed := wanted.intersection(_FIXED[postprocess]):
        raise UserError(
            f"{', '.join(sorted(fixed))}: the graph of this file makes its {postprocess} result "
            "itself, with values that are fixed; export it without --with-postprocess to choose"
        )
