"""What of each kind of model is exported, as modules from tensors to tensors."""

import math
from functools import cached_property
from typing import ClassVar

import torch
from detectron2.modeling import SemanticSegmentor
from torch import Tensor, nn

from ..errors import UnsupportedError
from ..modeling import MaskFormer, VideoMaskFormer
from ..modeling.mask_classifier import MaskClassifier
from ..modeling.mask_classifier.given_masks import no_object
from ..modeling.mask_classifier.sam_backbone import SamBackbone
from ..modeling.meta_arch.base import BaseModel
from ..modeling.meta_arch.per_pixel_heads import PerPixelBaselineHead, PerPixelBaselinePlusHead
from ..runtime.metadata import EMBEDDINGS, KINDS

_EXAMPLE = (512, 640)  # pixels, height and width

Axes = dict[int, str]


class Graph(nn.Module):
    """A model from images in 0..255 to logits; normalisation is inside, merging is not.

    Args:
        model: in eval mode, float32.

    Attributes:
        kind: see `runtime.metadata.KINDS`.
        input_axes, output_axes: names of the axes that have any length, of each input and output.
        divisibility: height and width of the images are multiples of it, in pixels.
        model_divisibility: the same of what the model pads images to itself.
    """

    kind: ClassVar[str]
    input_axes: ClassVar[tuple[Axes, ...]] = ({0: "batch", 2: "height", 3: "width"},)

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        own = max(1, int(getattr(model, "size_divisibility", 0) or 0))
        if isinstance(model, SemanticSegmentor):
            own = max(1, model.backbone.size_divisibility)
        # A multiple of the coarsest map's stride, so that the sides of all maps are multiples of
        # one symbol: an exporter then has nothing to prove about roundings.
        strides = (shape.stride for shape in model.backbone.output_shape().values())
        self.divisibility = math.lcm(own, *(stride for stride in strides if stride))
        self.model_divisibility = own

    @property
    def input_names(self) -> tuple[str, ...]:
        """Return the names of the inputs."""
        return KINDS[self.kind][0]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of the outputs."""
        return KINDS[self.kind][1]

    @property
    def output_axes(self) -> tuple[Axes, ...]:
        """Return the names of the axes of any length, of each output."""
        raise NotImplementedError

    @cached_property
    def stride(self) -> int:
        """Pixels of the images along a side for one of the maps, for which the model is run."""
        return self.divisibility // next(x for x in self.smallest() if x.dim() == 4).shape[-1]

    @torch.no_grad()
    def smallest(self) -> tuple[Tensor, ...]:
        """Return the outputs for the smallest images."""
        outputs = self(torch.zeros(2, 3, self.divisibility, self.divisibility))
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def example(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return inputs to trace with; no axis of any length has 0 or 1, which would be frozen,
        nor has the number of attention windows in the coarsest map."""
        height, width = (math.ceil(n / self.divisibility) * self.divisibility for n in _EXAMPLE)
        return (torch.zeros(2, 3, height, width, dtype=dtype),)

    def _map_axes(self) -> Axes:
        return {2: f"height/{self.stride}", 3: f"width/{self.stride}"}

    def normalized(self, images: Tensor) -> Tensor:
        """Return images (B, 3, H, W) as the backbone takes them."""
        return (images.float() - self.model.pixel_mean) / self.model.pixel_std


class ImageGraph(Graph):
    """`MaskFormer`: images (B, 3, H, W) to class logits (B, Q, K+1), mask logits (B, Q, h, w)."""

    kind = "image"

    @property
    def output_axes(self) -> tuple[Axes, ...]:
        """Return the names of the free axes."""
        return {0: "batch"}, {0: "batch", **self._map_axes()}

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict; see the class."""
        out = self.model.predict(self.normalized(images))
        return out["pred_logits"], out["pred_masks"]


class ClipGraph(Graph):
    """`VideoMaskFormer`: frames (T, 3, H, W) of one clip to class logits (Q, K+1), mask logits
    (Q, T, h, w) and, of heads that have them, the queries (Q, C) by which tracks are linked."""

    kind = "clip"
    input_axes: ClassVar = ({0: "frames", 2: "height", 3: "width"},)

    @property
    def output_axes(self) -> tuple[Axes, ...]:
        """Return the names of the free axes."""
        return {}, {1: "frames", **self._map_axes()}, {}

    @cached_property
    def gives_embeddings(self) -> bool:
        """Whether the head has them."""
        return len(self.smallest()) > 2

    @property
    def output_names(self) -> tuple[str, ...]:
        """Return the names of the outputs."""
        return (*super().output_names, *([EMBEDDINGS] if self.gives_embeddings else []))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Predict; see the class."""
        out = self.model.predict(self.normalized(images))
        names = ("pred_logits", "pred_masks", "pred_embeddings")
        return tuple(out[name][0] for name in names if name in out)


class PerPixelGraph(Graph):
    """detectron2's `SemanticSegmentor` with a per-pixel head of ours: images (B, 3, H, W) to class
    logits (B, K, h, w)."""

    kind = "per_pixel"

    @property
    def output_axes(self) -> tuple[Axes, ...]:
        """Return the names of the free axes."""
        return ({0: "batch", **self._map_axes()},)

    def forward(self, images: Tensor) -> Tensor:
        """Predict; see the class."""
        features = self.model.backbone(self.normalized(images))
        out = self.model.sem_seg_head.layers(features)
        return out[0] if isinstance(out, tuple) else out


class GivenMasksGraph(Graph):
    """`MaskClassifier`: images (B, 3, H, W) and masks (B, N, H, W), float32 in 0..1, to class
    logits (B, N, K+1).

    A mask whose image was resized has in every pixel the fraction that it covers; one that is zero
    everywhere is no-object with probability 1.
    """

    kind = "given_masks"
    input_axes: ClassVar = (
        {0: "batch", 2: "height", 3: "width"},
        {0: "batch", 1: "masks", 2: "height", 3: "width"},
    )
    output_axes = ({0: "batch", 1: "masks"},)

    def example(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Return images and masks to trace with; see `Graph.example`."""
        (images,) = super().example(dtype)
        return images, torch.zeros(2, 5, *images.shape[2:])

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Predict; see the class."""
        mask_features, maps, _ = self.model.encode(self.normalized(images))
        stride = int(images.shape[2] // mask_features.shape[2])
        coverage = nn.functional.avg_pool2d(masks, stride)
        decoder = self.model.sem_seg_head.predictor
        logits = decoder.classify(decoder.encode(maps, mask_features), coverage)[-1]
        empty = masks.amax((2, 3))[:, :, None] <= 0
        return torch.where(empty, no_object(1, logits.shape[-1], logits.device), logits)


_GRAPHS: dict[type, type[Graph]] = {
    MaskFormer: ImageGraph,
    VideoMaskFormer: ClipGraph,
    MaskClassifier: GivenMasksGraph,
    SemanticSegmentor: PerPixelGraph,
}


def graph_class(model: nn.Module) -> type[Graph]:
    """Return what a model is exported as.

    Raises:
        UnsupportedError: the model, or a part of it, cannot be exported; says which.
    """
    found = next((base for base in type(model).__mro__ if base in _GRAPHS), None)
    if found is None or type(model).forward is not found.forward:
        names = ", ".join(cls.__name__ for cls in _GRAPHS)
        what = "has a forward of its own" if found else "is none of them"
        raise UnsupportedError(
            f"{type(model).__name__} cannot be exported: export takes {names}, and this model "
            f"{what}. Set MODEL.META_ARCHITECTURE to one of these."
        )
    graph = _GRAPHS[found]
    if graph is PerPixelGraph and not isinstance(
        model.sem_seg_head, PerPixelBaselineHead | PerPixelBaselinePlusHead
    ):
        raise UnsupportedError(
            f"{type(model.sem_seg_head).__name__} cannot be exported in a SemanticSegmentor: its "
            "MODEL.SEM_SEG_HEAD.NAME must be PerPixelBaselineHead or PerPixelBaselinePlusHead."
        )
    if isinstance(model.backbone, SamBackbone):
        raise UnsupportedError(
            "SamBackbone cannot be exported: it resizes images to one fixed size itself. Choose "
            "another MODEL.BACKBONE.NAME."
        )
    _check_parts(model)
    if not isinstance(model, BaseModel | SemanticSegmentor):
        raise TypeError(f"{type(model).__name__}: expected a model, in eval mode")
    return graph


def _check_parts(model: nn.Module) -> None:
    """Raise an UnsupportedError for what exported files or the programs that run them cannot do."""
    if getattr(model, "semantic_window", 0) > 0:
        raise UnsupportedError(
            "MODEL.MASK_FORMER.TEST.SEMANTIC_WINDOW: exported files take whole images; set it to 0."
        )
    if getattr(model, "pad_value", -1) >= 0:
        raise UnsupportedError(
            "MODEL.MASK_FORMER.PAD_VALUE: exported files are given images that are padded with the "
            "mean; set it to -1."
        )
    rope = getattr(getattr(model, "sem_seg_head", None), "rope", None)
    kind = (getattr(rope, "normalize_coords", ""), getattr(rope, "grid_indexing", ""))
    if rope is not None and kind != ("separate", "ij"):
        raise UnsupportedError(
            f"{type(model.sem_seg_head).__name__} cannot be exported with the rotary positions of "
            f"{type(rope).__name__}: choose a ViT of DINOv3 or one with a position table as "
            "MODEL.TIMM.NAME, such as those of DINOv2."
        )
