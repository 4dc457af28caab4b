"""The segmentation head: a pixel decoder and a transformer decoder."""

import inspect
from collections.abc import Container

from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ...checkpoints.renames import rename_when_loading
from ...config.arguments import configurable
from ...errors import UserError
from ...layers.linear import is_watched
from ...ops.memory import OneUse
from ...overrides import is_replaced, replaceable
from ..pixel_decoder.fpn import select_features, sort_by_stride
from ..registries import SEM_SEG_HEADS_REGISTRY, TRANSFORMER_DECODER_REGISTRY

COMMON_STRIDE = 4  # of the mask features
_DECODERS = {  # for images and for clips; those from elsewhere are not checked
    "MaskFormer": ("MultiScaleMaskedTransformerDecoder", "StandardTransformerDecoder"),
    "VideoMaskFormer": ("VideoMultiScaleMaskedTransformerDecoder",),
}


def build_pixel_decoder(cfg, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the pixel decoder that MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME names.

    Raises:
        UserError: the class has no `forward_features`.
    """
    name = cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME
    model = SEM_SEG_HEADS_REGISTRY.get(name)(cfg, input_shape)
    if not callable(getattr(model, "forward_features", None)):
        raise UserError(
            f"{name} is no pixel decoder: it needs a method forward_features(features) that "
            "returns mask features, an encoder map or None, and three maps, coarse to fine."
        )
    return model


def pixel_features(decoder: nn.Module, features: dict[str, Tensor]) -> tuple:
    """Return what a pixel decoder makes of backbone features: mask features (B, C, H, W), an
    encoder map or None, and the maps that queries look at, coarse to fine.

    Raises:
        UserError: these are not three values.
    """
    outputs = decoder.forward_features(features)
    if not isinstance(outputs, tuple | list) or len(outputs) != 3:
        found = f"{len(outputs)} values" if isinstance(outputs, tuple | list) else type(outputs)
        raise UserError(
            f"{type(decoder).__name__}.forward_features: expected mask features, an encoder map or "
            f"None, and maps, coarse to fine; got {found}."
        )
    return tuple(outputs)


def build_transformer_decoder(cfg, in_channels: int, mask_classification: bool = True) -> nn.Module:
    """Build the decoder that MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME names."""
    name = cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME
    return TRANSFORMER_DECODER_REGISTRY.get(name)(cfg, in_channels, mask_classification)


def check_decoder(model: nn.Module, decoder: object) -> None:
    """Refuse a decoder that is for images in a model that is for clips, or the other way round.

    Subclasses are for what their base is for, unless they have a forward of their own.

    Raises:
        UserError: the two do not fit.
    """
    wanted = _base_of(type(model), _DECODERS)
    names = {name: model for model, names in _DECODERS.items() for name in names}
    found = names.get(_base_of(type(decoder), names) or "")
    if wanted and found and wanted != found:
        raise UserError(
            f"MODEL.META_ARCHITECTURE is {type(model).__name__}, but the decoder "
            f"{type(decoder).__name__} is for {found}: set "
            "MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME to "
            f"{' or '.join(_DECODERS[wanted])}, or MODEL.META_ARCHITECTURE to {found}."
        )


def _base_of(cls: type, names: Container[str]) -> str | None:
    """Return which of some classes a class is or takes its forward from; None: it has its own."""
    for base in cls.__mro__:
        if base.__name__ in names:
            return base.__name__
        if "forward" in vars(base):
            return None
    return None


def takes_aux_outputs(module: nn.Module) -> bool:
    """Tell whether a head or decoder has our keyword `aux_outputs`; others may lack it."""
    parameters = inspect.signature(module.forward).parameters
    return "aux_outputs" in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )


def handed_over(features: dict[str, Tensor], head: nn.Module) -> dict[str, Tensor]:
    """Return features that nobody needs after a head's pixel decoder, for that to take out, if the
    head's methods are ours, its transformer decoder needs none of them and nobody watches."""
    if not isinstance(head, MaskFormerHead) or is_replaced(head, "forward", "layers"):
        return features
    is_needed = head.transformer_in_feature in features or is_watched(head)
    return features if is_needed else OneUse(features)


class BaseHead(nn.Module):
    """What all heads share.

    Args:
        input_shape: shapes of the features that the head takes, by name.
        num_classes: K, without no-object.
        pixel_decoder: has `forward_features`.
        loss_weight: factor of a loss that the head computes itself.
        ignore_value: class of the pixels that such a loss leaves out.
    """

    _version = 2

    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        num_classes: int,
        pixel_decoder: nn.Module,
        loss_weight: float = 1.0,
        ignore_value: int = -1,
    ):
        super().__init__()
        self.in_features = [name for name, _ in sort_by_stride(input_shape)]
        self.ignore_value = ignore_value
        self.common_stride = COMMON_STRIDE
        self.loss_weight = loss_weight
        self.num_classes = num_classes
        self.pixel_decoder = pixel_decoder
        rename_when_loading(self)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": select_features(cfg, input_shape),
            "num_classes": head.NUM_CLASSES,
            "pixel_decoder": build_pixel_decoder(cfg, input_shape),
            "loss_weight": head.LOSS_WEIGHT,
            "ignore_value": head.IGNORE_VALUE,
        }


@SEM_SEG_HEADS_REGISTRY.register()
class MaskFormerHead(BaseHead):
    """Predict classes and masks of queries from backbone features.

    Args:
        input_shape: shapes of the features that the head takes, by name.
        transformer_predictor: the transformer decoder.
        transformer_in_feature: what the decoder looks at: "multi_scale_pixel_decoder",
            "transformer_encoder", "pixel_embedding", or the name of a backbone feature.

    The others are those of `BaseHead`; `loss_weight` and `ignore_value` are kept for code that
    reads them.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        transformer_predictor: nn.Module,
        transformer_in_feature: str,
        **common,
    ):
        super().__init__(input_shape, **common)
        self.predictor = transformer_predictor
        self.transformer_in_feature = transformer_in_feature

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        head = cfg.MODEL.SEM_SEG_HEAD
        source = cfg.MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE
        channels = {
            "transformer_encoder": head.CONVS_DIM,
            "multi_scale_pixel_decoder": head.CONVS_DIM,
            "pixel_embedding": head.MASK_DIM,
        }
        if source not in channels and source not in input_shape:
            raise UserError(
                f"MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE is {source!r}; it must be one of "
                f"{sorted(channels)} or a feature of the backbone, {sorted(input_shape)}."
            )
        in_channels = channels[source] if source in channels else input_shape[source].channels
        return {
            **super().from_config(cfg, input_shape),
            "transformer_predictor": cls.build_predictor(cfg, in_channels),
            "transformer_in_feature": source,
        }

    @classmethod
    def build_predictor(cls, cfg, in_channels: int) -> nn.Module:
        """Build the transformer decoder."""
        return build_transformer_decoder(cfg, in_channels)

    @replaceable
    def forward(
        self, features: dict[str, Tensor], mask: Tensor | None = None, *, aux_outputs: bool = True
    ) -> dict:
        """Predict from backbone features.

        Args:
            features: (B, C, H, W) maps by name; a clip's frames lie along B.
            mask: padding masks (B, H', W') of any size, bool, True at pixels to leave out; passed
                on to the decoder, which may ignore them.
            aux_outputs: also return the predictions of earlier decoder layers.

        Returns:
            `pred_logits` (B, Q, K+1); `pred_masks` (B, Q, H, W), for clips (B, Q, T, H, W),
            logits at stride 4; and, if wanted, `aux_outputs`, a list of dicts with these two.

        Raises:
            UserError: the pixel decoder has no encoder map and the decoder is to look at one, or
                it does not return three values.
        """
        if aux_outputs or is_replaced(self, "layers"):
            return self.layers(features, mask)
        return self.layers(features, mask, aux_outputs=False)

    @replaceable
    def layers(
        self, features: dict[str, Tensor], mask: Tensor | None = None, *, aux_outputs: bool = True
    ) -> dict:
        """Apply pixel decoder and transformer decoder; see `forward`."""
        mask_features, encoder_map, multi_scale = pixel_features(self.pixel_decoder, features)
        sources = {
            **features,
            "multi_scale_pixel_decoder": multi_scale,
            "transformer_encoder": encoder_map,
            "pixel_embedding": mask_features,
        }
        x = sources[self.transformer_in_feature]
        if x is None:
            raise UserError(
                f"{type(self.pixel_decoder).__name__} has no transformer encoder: choose another "
                "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE or TransformerEncoderPixelDecoder."
            )
        if aux_outputs or not takes_aux_outputs(self.predictor):
            return self.predictor(x, mask_features, mask)
        return self.predictor(x, mask_features, mask, aux_outputs=False)
