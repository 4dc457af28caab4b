"""From images to predictions in one call."""

import copy
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from PIL import Image
from torch import nn

from ..checkpoints.checkpointer import Checkpointer, read_for_use
from ..checkpoints.published import get_checkpoint_file, get_config
from ..classes import Classes, metadata_of
from ..config.architecture import meta_architecture
from ..config.keys import CLASSES_FROM_DATA
from ..data.geometry import at_least_a_pixel
from ..errors import UserError
from ..formats.images import read_annotated, read_image, to_array
from ..formats.pillow import set_max_pixels
from ..formats.pixels import check_array, no_image
from ..modeling.build import build_model
from ..modeling.meta_arch.batching import run_by_canvas
from ..ops.memory import return_large_memory

ImageLike = str | os.PathLike | Image.Image | np.ndarray


class Predictor:
    """A model with its weights, which takes images as they come.

    Example:
        >>> predictor = Predictor("coco/panoptic-segmentation/maskformer2_R50_bs16_50ep")
        >>> segments, infos = predictor("street.jpg")["panoptic_seg"]

    Attributes:
        cfg: the config, a copy.
        model: in eval mode.
        metadata: detectron2's Metadata with the names of the classes, in the order of the model: of
            the first test set where it has them in this order, else made of what the checkpoint or
            MODEL.CLASSES says.
        array_format: order of the channels in arrays.
    """

    def __init__(
        self,
        cfg: CfgNode | str,
        weights: str | os.PathLike[str] | None = None,
        device: str | None = None,
        array_format: str = "BGR",
    ) -> None:
        """
        Args:
            cfg: a config, or the name of one that comes with the package.
            weights: a file or URL; "" for random weights. None for those of the config
                (MODEL.WEIGHTS), or, where ``cfg`` is a name, for those that were published.
            device: such as "cpu"; None for the config's, or the CPU where there is no CUDA.
            array_format: order of the channels in arrays, "BGR" as OpenCV reads images and as
                detectron2's DefaultPredictor expects them, or "RGB". Files and PIL images know
                their order.

        Raises:
            UserError: an unknown name in the config or of it, or weights that cannot be read.
            FileNotFoundError: missing weights.
        """
        if array_format not in ("BGR", "RGB"):
            raise ValueError(f"array_format is 'BGR' or 'RGB', got {array_format!r}")
        if isinstance(cfg, str):
            weights = get_checkpoint_file(cfg) if weights is None else weights
            cfg = get_config(cfg)
        if cfg.INPUT.FORMAT not in ("BGR", "RGB"):
            raise UserError(f"INPUT.FORMAT is 'BGR' or 'RGB' here, got {cfg.INPUT.FORMAT!r}")
        set_max_pixels(cfg.INPUT.MAX_PIXELS)
        self.cfg = cfg.clone()
        self.cfg.defrost()
        if device is not None:
            self.cfg.MODEL.DEVICE = device
        self.cfg.MODEL.WEIGHTS = os.fspath(cfg.MODEL.WEIGHTS if weights is None else weights)
        expected, content = Classes.from_config(self.cfg), {}
        if self.cfg.MODEL.WEIGHTS:
            content = read_for_use(self.cfg)
            self._take_classes(Classes.from_checkpoint(content))
        self.metadata = metadata_of(self.cfg, (*cfg.DATASETS.TEST, "__unused")[0])
        self.model = build_model(self.cfg).eval()
        return_large_memory()
        if self.cfg.MODEL.WEIGHTS:
            min_match = self.cfg.MODEL.WEIGHTS_MIN_MATCH
            checkpointer = Checkpointer(self.model, min_match=min_match, classes=expected)
            checkpointer.load(self.cfg.MODEL.WEIGHTS, content=content)
        self._set_up(array_format)

    @classmethod
    def of_model(cls, model: nn.Module, cfg: CfgNode) -> "Predictor":
        """Return a predictor of a model in eval mode that is there, with its config."""
        predictor = cls.__new__(cls)
        predictor.cfg, predictor.model = cfg.clone(), model
        names = metadata_of(cfg, (*cfg.DATASETS.TEST, "__unused")[0])
        own = getattr(model, "metadata", None)
        predictor.metadata = names if own is None else own
        predictor._set_up("BGR")
        return predictor

    def _set_up(self, array_format: str) -> None:
        """Set what does not depend on the model."""
        cfg = self.cfg
        self.array_format = array_format
        shortest = cfg.INPUT.MIN_SIZE_TEST
        self._resize = T.ResizeShortestEdge([shortest, shortest], cfg.INPUT.MAX_SIZE_TEST)

    def _take_classes(self, classes: Classes | None) -> None:
        """Set the classes that the checkpoint names, and their number where the config has none."""
        head = self.cfg.MODEL.SEM_SEG_HEAD
        if classes is not None and head.NUM_CLASSES in (CLASSES_FROM_DATA, len(classes.names)):
            head.NUM_CLASSES = len(classes.names)
            classes.write(self.cfg)

    @torch.no_grad()
    def __call__(self, images: ImageLike | Iterable[ImageLike]) -> Any:
        """Predict one image, or several in batches of equal canvas: the results of an image do not
        depend on the others.

        Args:
            images: a file, a PIL image or an array (H, W, 3) or (H, W), of uint8 in [0, 255] or
                scaled as `to_8_bits` does with files; or a list of them, of any sizes.

        Returns:
            what the model returns for one image, a dict with "panoptic_seg", "instances" and
            "sem_seg" as the config turns them on, in the size of the image; for a list, the list
            of them.

        Raises:
            FileNotFoundError: a file is missing.
            TypeError: what came is none of these.
            UserError: a file is no image, an array has another shape or type, or the model is one
                for video: see ``predict_clip``.
        """
        if meta_architecture(self.cfg) == "VideoMaskFormer":
            raise UserError("this model is one for video: give the frames to predict_clip")
        if isinstance(images, ImageLike):
            return self.model([self.prepare(images)])[0]
        if not isinstance(images, Iterable) or isinstance(images, bytes | Mapping | torch.Tensor):
            raise no_image(images)
        prepared = [self.prepare(image) for image in images]
        return run_by_canvas(self.model, prepared)

    @torch.no_grad()
    def predict_clip(self, frames: Iterable[ImageLike]) -> dict[str, Any]:
        """Predict the frames of one clip, T images of one size, with a video model.

        Returns:
            what the model returns for a clip: "image_size", "pred_scores", "pred_labels" and
            "pred_masks", a list of (T, H, W) masks.

        Raises:
            UserError: no frames, or frames of several sizes; as well as what ``__call__`` raises.
        """
        prepared = list(self._prepare_frames(frames))
        return self.model([prepared[0] | {"image": [frame["image"] for frame in prepared]}])

    def prepare(self, image: ImageLike) -> dict[str, Any]:
        """Return what the model takes: "image" (3, H, W) uint8 and the size of the result.

        Raises:
            FileNotFoundError, TypeError, ValueError: as ``__call__``.
        """
        return self._prepare_array(self._to_array(image))

    def without_model(self) -> Self:
        """Return a copy that prepares images in another process, but cannot predict."""
        light = copy.copy(self)
        light.model = None
        return light

    def _prepare_array(self, array: np.ndarray) -> dict[str, Any]:
        height, width = array.shape[:2]
        resized = at_least_a_pixel(self._resize.get_transform(array)).apply_image(array)
        tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        return {"image": tensor, "height": height, "width": width}

    def _prepare_frames(self, frames: Iterable[ImageLike]) -> Iterator[dict[str, Any]]:
        """Yield the same of the frames of one video.

        Raises:
            TypeError: no frames at all, but a file, say: see `open_source`.
            UserError: there is no frame, or one has another size than the first.
        """
        if isinstance(frames, str | os.PathLike | Image.Image) or not isinstance(frames, Iterable):
            raise TypeError(f"expected the frames of a video, got {type(frames).__name__}")
        size = None
        for i, frame in enumerate(frames):
            prepared = self.prepare(frame)
            found = (prepared["height"], prepared["width"])
            size = size or found
            if found != size:
                raise UserError(
                    f"frame {i} is {found[1]}x{found[0]} (width x height), those before are "
                    f"{size[1]}x{size[0]}: expected frames of one size"
                )
            yield prepared
        if size is None:
            raise UserError("expected the frames of a video, got none")

    def to_rgb(self, image: ImageLike, record: Mapping[str, Any] | None = None) -> np.ndarray:
        """Return (H, W, 3) uint8, RGB, of an image as `__call__` takes it.

        Args:
            record: annotations of the image, if it is a file; see `read_photo`.
        """
        if record:
            exif_rotation = self.cfg.INPUT.EXIF_ROTATION
            return read_annotated(record, image, "RGB", exif_rotation=exif_rotation)
        return self._to_array(image, "RGB")

    def _to_array(self, image: ImageLike, wanted: str | None = None) -> np.ndarray:
        """Return (H, W, 3) uint8, the channels in the wanted order, or in that of INPUT.FORMAT."""
        wanted = wanted or self.cfg.INPUT.FORMAT
        exif_rotation = self.cfg.INPUT.EXIF_ROTATION
        if isinstance(image, str | os.PathLike):
            return read_image(image, wanted, exif_rotation=exif_rotation)
        if isinstance(image, Image.Image):
            return to_array(image, wanted, exif_rotation=exif_rotation)
        if not isinstance(image, np.ndarray):
            raise no_image(image)
        array = check_array(image)
        return array if self.array_format == wanted else array[:, :, ::-1]
