"""Images of any size, in tiles that are joined."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor
from tqdm import tqdm

from ..config.architecture import meta_architecture
from ..errors import UserError
from ..formats.rasters import open_raster
from ..modeling.meta_arch.merging import MergingModel
from ..modeling.postprocessing.mergers import merge_masks
from ..modeling.postprocessing.switches import switched
from ..mosaic import Mosaic, Options, TilePrediction, Tiling, predict_mosaic
from ..mosaic.drawing import draw_mosaics
from ..mosaic.joining import OnTiles, no_progress
from ..mosaic.objects import ObjectMerger
from ..overrides import is_replaced
from .image import ImageLike, Predictor

_REPLACED = ("panoptic_inference", "instance_inference")


class TiledPredictor(Predictor):
    """A model with its weights, which takes images of any size, in tiles that are joined.

    The model sees a tile as it sees an image of that size: INPUT.MIN_SIZE_TEST says what it is
    resized to. Memory depends on the tiles, and little on the image.

    Example:
        >>> predictor = TiledPredictor(cfg, "model_final.pth", tile=1024)
        >>> with predictor("city.tif") as mosaic:
        ...     write_tiff("ids.tif", mosaic.panoptic(), mosaic.size, "int32")
        ...     buildings = [i for i in mosaic.instances() if i.label == 3]
    """

    def __init__(
        self,
        cfg: CfgNode | str,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
        array_format: str = "BGR",
        *,
        tile: int,
        overlap: int | None = None,
        score_threshold: float = 0.0,
        label_threshold: float = 0.0,
        batch: int = 8,
        channels: Sequence[int] = (),
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        """
        Args:
            cfg, weights, device, array_format: as for `Predictor`.
            tile, overlap: see `Tiling`; the overlap is a quarter of the tile by default.
            score_threshold: instances of a lower score are left out, in 0..1.
            label_threshold: least fraction of a pixel's best class in a semantic result, in 0..1.
            batch: tiles that pass the model together.
            channels: of TIFF files, see `open_raster`.
            folder: on whose disk tiles wait to be joined; by default that of temporary files.

        Raises:
            UserError: tiles that do not go together, or a model for videos or given masks, or
                whose merging is replaced; else as `Predictor`.
        """
        self.tiling = Tiling.of(tile, overlap)
        self.channels = channels
        super().__init__(cfg, weights, device, array_format)
        self._has_objects = isinstance(self.model, MergingModel)
        name = meta_architecture(self.cfg)
        if name in ("VideoMaskFormer", "MaskClassifier"):
            raise UserError(f"tiles need a model for images, MODEL.META_ARCHITECTURE is {name}")
        replaced = [m for m in _REPLACED if self._has_objects and is_replaced(self.model, m)]
        if replaced:
            raise UserError(
                f"tiles join what queries predict, and would not call {' and '.join(replaced)} of "
                f"{type(self.model).__name__}"
            )
        thresholds = {"label_threshold": label_threshold, "score_threshold": score_threshold}
        self.options = self._options(batch=batch, folder=folder, **thresholds)

    def __call__(self, image: ImageLike, on_tiles: OnTiles = no_progress) -> Mosaic:
        """Predict an image of any size.

        Args:
            image: a file, a PIL image or an array; TIFF files are read in windows.
            on_tiles: is called with the number of tiles just done and of all.

        Raises:
            UserError, OSError: as `open_raster`; or the disk is full.
        """
        if isinstance(image, np.ndarray) and self.array_format == "BGR" and image.ndim == 3:
            image = image[:, :, ::-1]
        raster = open_raster(image, self.channels, exif_rotation=self.cfg.INPUT.EXIF_ROTATION)
        try:
            return predict_mosaic(raster, self.tiling, self._predict, self.options, on_tiles)
        finally:
            raster.close()

    def _options(self, **given: Any) -> Options:
        if not self._has_objects:
            return Options(True, False, False, **given)
        model, is_thing = self.model, None
        if model.panoptic_on:
            is_thing = model._is_thing(self.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES).numpy()
        return Options(
            model.semantic_on,
            model.panoptic_on,
            model.instance_on,
            is_thing=is_thing,
            object_mask_threshold=model.object_mask_threshold,
            overlap_threshold=model.overlap_threshold,
            **given,
        )

    @torch.no_grad()
    def _predict(self, windows: Sequence[np.ndarray]) -> Iterator[TilePrediction]:
        if self.cfg.INPUT.FORMAT == "BGR":
            windows = [window[:, :, ::-1] for window in windows]
        inputs = [self._prepare_array(np.ascontiguousarray(window)) for window in windows]
        if not self._has_objects or getattr(self.model, "semantic_window", 0) > 0:
            with switched(self.model, semantic_output="scores"):
                results = self.model(inputs)
            for result in results:
                yield TilePrediction(scores=_array(result["sem_seg"]))
            return
        images = self.model.preprocess([x["image"] for x in inputs])
        outputs = self.model.predict(images.tensor)
        canvases = self.model.canvases(inputs, images)
        for row in zip(outputs["pred_logits"], outputs["pred_masks"], canvases):
            yield self._merge(*row)

    def _merge(self, class_logits: Tensor, mask_logits: Tensor, canvas: Any) -> TilePrediction:
        objects = scores = None
        if self.options.panoptic or self.options.instances:
            probs = _array(class_logits.float().softmax(-1))
            merger = _Shown(ObjectMerger(probs, canvas.output), class_logits.device)
            merge_masks(mask_logits, canvas, [merger])
            objects = merger.merger.result()
        if self.options.semantic:
            switches = {"panoptic_on": False, "instance_on": False, "semantic_output": "scores"}
            with switched(self.model, **switches):
                result = self.model.segment(class_logits, mask_logits, canvas)
            scores = _array(result["sem_seg"])
        return TilePrediction(objects, scores)


def draw_tiled(
    predictor: TiledPredictor, files: Sequence[str], output: str | os.PathLike[str], **options: Any
) -> list[Path]:
    """Draw images as `draw_mosaics` does, whose options are taken; show a bar on a terminal."""

    def predict(file: str) -> Mosaic:
        with tqdm(unit="tile", disable=None) as bar:

            def on_tiles(done: int, count: int) -> None:
                bar.total = count
                bar.update(done)

            return predictor(file, on_tiles)

    return draw_mosaics(predict, files, output, predictor.metadata, **options)


class _Shown:
    """Show a merger of arrays what `merge_masks` shows one of tensors."""

    def __init__(self, merger: ObjectMerger, device: torch.device):
        self.merger = merger
        self.queries = torch.from_numpy(merger.queries).to(device)

    def add(self, rows: slice, mask_logits: Tensor, mask_probs: Tensor) -> None:
        self.merger.add(rows, _array(mask_logits), _array(mask_probs))


def _array(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
