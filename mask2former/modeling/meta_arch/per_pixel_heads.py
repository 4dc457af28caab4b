"""The per-pixel baselines of MaskFormer, as heads of detectron2's SemanticSegmentor.

Source: MaskFormer, Cheng et al. 2021, section 4.1 (PerPixelBaseline and PerPixelBaseline+).
"""

from detectron2.layers import Conv2d, ShapeSpec
from fvcore.nn.weight_init import c2_msra_fill
from torch import Tensor, nn
from torch.nn import functional as F

from ...config.arguments import configurable
from ...errors import UserError
from ..registries import SEM_SEG_HEADS_REGISTRY
from ..transformer_decoder import StandardTransformerDecoder
from .heads import COMMON_STRIDE, BaseHead, MaskFormerHead, pixel_features


def upsample_logits(logits: Tensor) -> Tensor:
    """Resize class logits (B, K, H, W) from the stride of the mask features to pixels."""
    return F.interpolate(
        logits.float(), scale_factor=COMMON_STRIDE, mode="bilinear", align_corners=False
    )


def per_pixel_loss(logits: Tensor, targets: Tensor, ignore_value: int) -> Tensor:
    """Return the mean cross-entropy over the pixels that have a class; 0 if none has.

    Image sides that are no multiple of the stride give logits a little larger than the image,
    which are cropped to it, as in prediction; the published code fails there.

    Args:
        logits: (B, K, H/4, W/4), rounded up.
        targets: class of every pixel, int64 (B, H, W).
        ignore_value: class of the pixels to leave out.
    """
    logits = upsample_logits(logits)
    height = min(logits.shape[-2], targets.shape[-2])
    width = min(logits.shape[-1], targets.shape[-1])
    logits, targets = logits[..., :height, :width], targets[..., :height, :width]
    total = F.cross_entropy(logits, targets, ignore_index=ignore_value, reduction="sum")
    return total / (targets != ignore_value).sum().clamp(min=1)


class _PerPixelLosses:
    """The loss of both heads."""

    ignore_value: int
    loss_weight: float

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the weighted `loss_sem_seg`; the arguments are the first of `per_pixel_loss`."""
        loss = per_pixel_loss(predictions, targets, self.ignore_value)
        return {"loss_sem_seg": loss * self.loss_weight}


@SEM_SEG_HEADS_REGISTRY.register()
class PerPixelBaselineHead(_PerPixelLosses, BaseHead):
    """Classify every pixel by a 1x1 convolution on the mask features.

    Args:
        input_shape: shapes of the features that the head takes, by name.
        mask_dim: channels of the pixel decoder's mask features; by default its `mask_dim`.

    The others are those of `BaseHead`.
    """

    @configurable
    def __init__(self, input_shape: dict[str, ShapeSpec], *, mask_dim: int | None = None, **common):
        super().__init__(input_shape, **common)
        if mask_dim is None:
            mask_dim = self.pixel_decoder.mask_dim
        self.predictor = Conv2d(mask_dim, self.num_classes, kernel_size=1)
        c2_msra_fill(self.predictor)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        return {
            **super().from_config(cfg, input_shape),
            "mask_dim": cfg.MODEL.SEM_SEG_HEAD.MASK_DIM,
        }

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Classify pixels, or compute the loss.

        Args:
            features: (B, C, H, W) maps by name.
            targets: while training, the class of every pixel, int64 (B, H, W).

        Returns:
            while training None and {"loss_sem_seg"}; else the class logits (B, K, H, W) and {}.
        """
        logits = self.layers(features)
        if not self.training:
            return upsample_logits(logits), {}
        return None, self.losses(logits, targets)

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Return class logits (B, K, H/4, W/4)."""
        return self.predictor(pixel_features(self.pixel_decoder, features)[0])


@SEM_SEG_HEADS_REGISTRY.register()
class PerPixelBaselinePlusHead(_PerPixelLosses, MaskFormerHead):
    """Classify every pixel by a transformer decoder with one query for each class.

    It is MaskFormerHead whose mask logits are class logits.

    Args: see `MaskFormerHead`; the decoder must have K queries and no mask classification.
        Without `deep_supervision`, its earlier layers have no loss.

    Raises:
        UserError: the numbers of queries and classes differ.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        num_classes: int,
        transformer_predictor: nn.Module,
        deep_supervision: bool = True,
        **args,
    ):
        queries = getattr(transformer_predictor, "num_queries", num_classes)
        if queries != num_classes:
            raise UserError(
                "PerPixelBaselinePlusHead needs one query for each class: set "
                "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES to MODEL.SEM_SEG_HEAD.NUM_CLASSES, which is "
                f"{num_classes}; got {queries} queries."
            )
        super().__init__(
            input_shape,
            num_classes=num_classes,
            transformer_predictor=transformer_predictor,
            **args,
        )
        self.deep_supervision = deep_supervision

    @classmethod
    def build_predictor(cls, cfg, in_channels: int) -> nn.Module:
        """Build a StandardTransformerDecoder, whatever TRANSFORMER_DECODER_NAME says."""
        return StandardTransformerDecoder(cfg, in_channels, mask_classification=False)

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Classify pixels, or compute the losses; see `PerPixelBaselineHead.forward`.

        With deep supervision there is a "loss_sem_seg_{i}" for each decoder layer but the last.
        """
        logits, aux_outputs = self.layers(features)
        if not self.training:
            return upsample_logits(logits), {}
        losses = self.losses(logits, targets)
        for i, aux in enumerate(aux_outputs or ()):
            of_layer = self.losses(aux["pred_masks"], targets)
            losses.update({f"{name}_{i}": loss for name, loss in of_layer.items()})
        return None, losses

    def layers(self, features: dict[str, Tensor]) -> tuple[Tensor, list[dict[str, Tensor]]]:
        """Return class logits (B, K, H/4, W/4), and while training those of earlier layers as
        `pred_masks` of dicts."""
        out = super().layers(features, aux_outputs=self.training and self.deep_supervision)
        return out["pred_masks"], out.get("aux_outputs", [])
