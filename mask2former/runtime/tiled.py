"""Images of any size with an exported model, in tiles that are joined."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..formats.atomic import PathLike
from ..formats.rasters import open_raster
from ..mosaic import Mosaic, Options, TilePrediction, Tiling, predict_mosaic
from ..mosaic.joining import OnTiles, no_progress
from ..mosaic.objects import ObjectMerger
from .images import ImageLike, to_batch
from .model import Runtime
from .postprocessing.merging import SemanticMerger, merge_masks, merge_then_resize, softmax
from .resizing import Canvas, Resized


class TiledRuntime(Runtime):
    """An exported model that takes images of any size, in tiles that are joined.

    The model sees a tile as it sees an image of that size. Memory depends on the tiles, and little
    on the image.

    Example:
        >>> runtime = TiledRuntime("model.onnx", tile=1024)
        >>> with runtime("city.tif") as mosaic:
        ...     write_tiff("ids.tif", mosaic.panoptic(), mosaic.size, "int32")
    """

    def __init__(
        self,
        path: PathLike,
        *,
        tile: int,
        overlap: int | None = None,
        score_threshold: float = 0.0,
        label_threshold: float = 0.0,
        batch: int = 8,
        channels: Sequence[int] = (),
        folder: PathLike | None = None,
        **options: Any,
    ):
        """
        Args:
            path: as for `Runtime`.
            tile, overlap: see `Tiling`; the overlap is a quarter of the tile by default.
            score_threshold: instances of a lower score are left out, in 0..1.
            label_threshold: as for `Runtime`.
            batch: tiles that pass the model together.
            channels: of TIFF files, see `open_raster`.
            folder: on whose disk tiles wait to be joined; by default that of temporary files.
            options: of `Runtime`.

        Raises:
            UserError: tiles that do not go together, or a model that takes more than images; else
                as `Runtime`.
        """
        self.tiling = Tiling.of(tile, overlap)
        self.channels = channels
        super().__init__(path, label_threshold=label_threshold, **options)
        metadata = self.metadata
        if metadata.kind not in ("image", "per_pixel"):
            raise UserError(f"tiles need a model for images, {path} is one for {metadata.kind}")
        if metadata.postprocess:
            raise UserError(
                f"{path}: makes its {metadata.postprocess} result in the graph, and has no logits "
                "that tiles could join: export it without --with-postprocess"
            )
        has_objects, is_thing = metadata.kind == "image", None
        if metadata.panoptic_on:
            is_thing = np.isin(np.arange(len(metadata.class_names)), metadata.thing_ids)
        self.options = Options(
            semantic=metadata.semantic_on or not has_objects,
            panoptic=metadata.panoptic_on and has_objects,
            instances=metadata.instance_on and has_objects,
            is_thing=is_thing,
            object_mask_threshold=metadata.object_mask_threshold,
            overlap_threshold=metadata.overlap_threshold,
            label_threshold=label_threshold,
            score_threshold=score_threshold,
            batch=batch,
            folder=folder,
        )

    def __call__(  # type: ignore[override]  # one image, and what is returned is a stream
        self, image: ImageLike, on_tiles: OnTiles = no_progress
    ) -> Mosaic:
        """Predict an image of any size; see `open_raster` and `predict_mosaic`."""
        raster = open_raster(image, self.channels, exif_rotation=self.metadata.exif_rotation)
        try:
            return predict_mosaic(raster, self.tiling, self._predict_tiles, self.options, on_tiles)
        finally:
            raster.close()

    def _predict_tiles(self, windows: Sequence[np.ndarray]) -> Iterator[TilePrediction]:
        batch, canvases = to_batch(windows, self.metadata, self._session.dtype)
        for row in zip(*self._session(images=batch), canvases):
            if self.metadata.kind == "per_pixel":
                yield TilePrediction(scores=_resized(*row))
            else:
                yield self._tile(*row)

    def _tile(self, class_logits: np.ndarray, masks: np.ndarray, canvas: Canvas) -> TilePrediction:
        options, mergers = self.options, list[Any]()
        objects: ObjectMerger | None = None
        semantic: SemanticMerger | None = None
        if options.panoptic or options.instances:
            objects = ObjectMerger(softmax(class_logits), canvas.output)
            mergers.append(objects)
        if options.semantic:
            semantic = SemanticMerger(class_logits, canvas.output, keep_scores=True)
            if self.metadata.resize_before_merge:
                mergers.append(semantic)
            else:
                merge_then_resize(masks, canvas, semantic)
        merge_masks(masks, canvas, mergers)
        return TilePrediction(
            None if objects is None else objects.result(),
            None if semantic is None else semantic.result(),
        )


def _resized(logits: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Return scores (K, h, w) of logits over the canvas."""
    resized = Resized(logits, canvas)
    return np.concatenate([rows for _, rows in resized.blocks()], 1)
