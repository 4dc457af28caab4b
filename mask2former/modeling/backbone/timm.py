"""Any model of the timm library that gives feature maps as a detectron2 backbone."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor
from torch.nn import functional as F

from ...errors import MissingPackageError, UserError
from ...layers import SimpleFeaturePyramid
from ..registries import BACKBONE_REGISTRY
from .stages import FreezableBackbone

_PYRAMID_STRIDES = [4, 8, 16, 32]


class NormalizingBackbone(FreezableBackbone):
    """A backbone that brings images to the mean and std that it was trained with, if asked to, and
    has learning rates of its own by layer."""

    _lr_scales: dict[str, float]

    def _set_normalization(
        self, own: dict, given: tuple[Sequence[float], Sequence[float]] | None, bgr: bool
    ) -> None:
        self.bgr = bgr
        self.renormalize = given is not None
        if given is not None:
            mean, std = torch.tensor(given)[..., None, None]
            if bgr:
                mean, std = mean.flip(0), std.flip(0)
            own_mean, own_std = 255 * torch.tensor([own["mean"], own["std"]])[..., None, None]
            self.register_buffer("scale", std / own_std, persistent=False)
            self.register_buffer("offset", (mean - own_mean) / own_std, persistent=False)

    def lr_scales(self) -> dict[str, float]:
        """Return the factor of the learning rate by parameter, for those where it is not 1."""
        return {name: scale for name, scale in self._lr_scales.items() if scale != 1}

    def _normalize(self, images: Tensor) -> Tensor:
        if not self.renormalize:
            return images
        return (images.flip(1) if self.bgr else images) * self.scale + self.offset


class TimmBackbone(NormalizingBackbone):
    """A timm model without its head; features are named by stride: 4, 8, 16, 32 are res2 to res5.

    The features of a plain ViT all have one stride; a `SimpleFeaturePyramid` is made of one.
    Patches of 14 pixels, as DINOv2's, become patches of 16. Images of any size work: they are
    zero-padded to what the model needs, and the features are cropped.

    Args:
        name: of the model in timm.
        out_indices: of the features that are returned, as in timm's `features_only`; none for those
            of strides 4 to 32, or for the last block of a plain ViT.
        pretrained: "" for random weights, "timm" for timm's own download, else a file or package,
            see `find_weight_file`.
        in_channels: channels of the images.
        normalized_with: mean and std, in 0..255, with which images come normalised. If given, they
            are brought to the mean and std that the model was trained with; else taken as they are.
        bgr: together with normalized_with: images come as BGR and are turned to RGB.
        freeze_bn: keep the weights and statistics of all batch norms as they are.
        freeze_at: 0 trains everything, 1 freezes the stem, n the first n - 1 stages (blocks of a
            plain ViT) too, -1 everything but the feature pyramid.
        layer_decay: factor of the learning rate from each layer to the one before it.
        drop_path: drop path rate of the last block; it rises linearly from 0 at the first.
        checkpointing: compute activations again in the backward pass instead of keeping them.
        pyramid_dim: channels of the feature pyramid of a plain ViT.

    Raises:
        ImportError: timm is not installed.
        FileNotFoundError: `pretrained` names nothing that exists.
        UserError: no such model, features or options, or weights of another model.
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] = (),
        pretrained: str = "",
        *,
        in_channels: int = 3,
        normalized_with: tuple[Sequence[float], Sequence[float]] | None = None,
        bgr: bool = False,
        freeze_bn: bool = False,
        freeze_at: int = 0,
        layer_decay: float = 1.0,
        drop_path: float = 0.0,
        checkpointing: bool = False,
        pyramid_dim: int = 256,
    ):
        super().__init__()
        try:
            from timm.layers import freeze_batch_norm_2d  # timm is optional, and slow to import

            from . import timm_models
        except ImportError as error:
            raise MissingPackageError("build_timm_backbone needs timm: pip install timm") from error
        made = timm_models.make_model(name, out_indices, pretrained, in_channels, drop_path)
        if checkpointing:
            timm_models.save_activations(name, made.model)
        self.model = freeze_batch_norm_2d(made.model) if freeze_bn else made.model
        self._channels_last = str(getattr(made.model, "output_fmt", "")).endswith("NHWC")
        self._divisor = made.divisor
        channels, self.pyramid = made.channels, None
        if made.plain:
            [(stride, width)] = channels.items()
            self.pyramid = SimpleFeaturePyramid(width, stride, pyramid_dim, _PYRAMID_STRIDES)
            channels = dict.fromkeys(_PYRAMID_STRIDES, pyramid_dim)
        names = {stride: f"res{stride.bit_length() - 1}" for stride in channels}
        self._out_features = list(names.values())
        self._out_feature_strides = {name: stride for stride, name in names.items()}
        self._out_feature_channels = {names[stride]: c for stride, c in channels.items()}
        self._lr_scales: dict[str, float] = {}
        if layer_decay != 1:
            layers = timm_models.layer_indices(self.model, made.whole, stages=False)
            last = max(layers.values())
            self._lr_scales = {f"model.{n}": layer_decay ** (last - i) for n, i in layers.items()}
        if freeze_at < 0:
            self.model.requires_grad_(False)
        elif freeze_at:
            stages = timm_models.layer_indices(self.model, made.whole, stages=True)
            for n, parameter in self.model.named_parameters():
                parameter.requires_grad_(stages[n] >= freeze_at)
        self._set_normalization(made.whole.pretrained_cfg, normalized_with, bgr)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised images (B, 3, H, W) to {name: (B, C, H/stride, W/stride)}, rounded up."""
        images = self._normalize(images)
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % self._divisor, 0, -height % self._divisor))
        features = self.model(images)
        if self._channels_last:
            features = [x.permute(0, 3, 1, 2).contiguous() for x in features]
        if self.pyramid is not None:
            features = self.pyramid(features[0])
        return {
            name: x[:, :, : -(-height // stride), : -(-width // stride)]
            for (name, stride), x in zip(self._out_feature_strides.items(), features)
        }


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build a `TimmBackbone` from cfg.MODEL.TIMM.

    Raises:
        UserError: see `TimmBackbone` and `normalized_with`.
    """
    options = cfg.MODEL.TIMM
    return TimmBackbone(
        options.NAME,
        options.OUT_INDICES,
        options.PRETRAINED,
        in_channels=input_shape.channels,
        normalized_with=normalized_with(cfg),
        bgr=cfg.INPUT.FORMAT == "BGR",
        freeze_bn=options.FREEZE_BN,
        freeze_at=options.FREEZE_AT,
        layer_decay=options.LAYER_DECAY,
        drop_path=options.DROP_PATH_RATE,
        checkpointing=options.USE_CHECKPOINT,
        pyramid_dim=options.PYRAMID_DIM,
    )


def normalized_with(cfg: CfgNode) -> tuple[Sequence[float], Sequence[float]] | None:
    """Return the mean and std of images that a backbone is to change to its own; None to take
    images as they are.

    Raises:
        UserError: MODEL.TIMM.NORMALIZE is neither "config" nor "timm".
    """
    if cfg.MODEL.TIMM.NORMALIZE not in ("config", "timm"):
        raise UserError(
            'MODEL.TIMM.NORMALIZE must be "config", for MODEL.PIXEL_MEAN and PIXEL_STD, or "timm", '
            f"for those that the model was trained with; got {cfg.MODEL.TIMM.NORMALIZE!r}."
        )
    if cfg.MODEL.TIMM.NORMALIZE == "config":
        return None
    return cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
