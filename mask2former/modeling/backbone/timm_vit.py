"""The first blocks of a plain ViT of timm, for heads that run the last ones themselves."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...errors import MissingPackageError, UserError
from ..registries import BACKBONE_REGISTRY
from .timm import NormalizingBackbone, normalized_with
from .vit_stem import FeaturePatches, build_stem

PATCHES, PREFIX = "patches", "prefix"
# Keys of MODEL.EOMT and arguments of timm's classes.
_CHANGES = {
    "PATCH_SIZE": "patch_size",
    "EMBED_DIM": "embed_dim",
    "DEPTH": "depth",
    "NUM_HEADS": "num_heads",
    "MLP_RATIO": "mlp_ratio",
    "NORM_EPS": "norm_eps",
}


class ViT(NamedTuple):
    """A plain ViT of timm whole.

    Attributes:
        model: timm's `VisionTransformer` or `Eva`.
        lr_scales: factors of the learning rate by parameter, for those where it is not 1.
    """

    model: Any
    lr_scales: dict[str, float]


def build_vit(cfg: CfgNode, in_channels: int = 3) -> ViT:
    """Build the ViT that MODEL.TIMM names, with the changes of MODEL.EOMT.

    Raises:
        ImportError: timm is not installed.
        UserError: it is no plain ViT, or cannot be changed so; see `make_vit`.
    """
    options, eomt = cfg.MODEL.TIMM, cfg.MODEL.EOMT
    changes: dict[str, Any] = {name: eomt[key] for key, name in _CHANGES.items() if eomt[key]}
    if eomt.REGISTERS >= 0:
        changes["reg_tokens"] = eomt.REGISTERS
    try:
        from . import timm_models
    except ImportError as error:
        raise MissingPackageError("A ViT of timm needs timm: pip install timm") from error
    model = timm_models.make_vit(
        options.NAME,
        options.PRETRAINED,
        in_channels=in_channels,
        image_size=tuple(eomt.IMAGE_SIZE),
        drop_path=options.DROP_PATH_RATE,
        changes=changes,
    )
    layers: dict[str, int] = {}
    if options.LAYER_DECAY != 1 or options.FREEZE_AT:
        layers = timm_models.layer_indices(model, model, stages=False)
    for name, parameter in model.named_parameters():
        if options.FREEZE_AT < 0 or (options.FREEZE_AT and layers[name] < options.FREEZE_AT):
            parameter.requires_grad_(False)
    last = max(layers.values(), default=0)
    scales = {n: options.LAYER_DECAY ** (last - i) for n, i in layers.items() if i < last}
    return ViT(model, {n: scale for n, scale in scales.items() if scale != 1})


def apply_blocks(
    blocks: Iterable[nn.Module],
    x: Tensor,
    rope: Tensor | None,
    mask: Tensor | None = None,
    checkpointing: bool = False,
) -> Tensor:
    """Apply blocks of timm's to tokens (B, N, C).

    Args:
        rope: rotary positions of the patches, of a ViT that has them.
        mask: (B, 1, N, N), bool, True where a token (row) sees another.
        checkpointing: compute activations again in the backward pass instead of keeping them.
    """
    options: dict[str, Any] = {"attn_mask": mask} | ({} if rope is None else {"rope": rope})
    for block in blocks:
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False, **options)
        else:
            x = block(x, **options)
    return x


class ViTStart(NormalizingBackbone):
    """All blocks of a plain ViT but the last ones, whose tokens a head takes on.

    Args:
        vit: of timm, whole; its last blocks, norm and classifier are dropped here.
        num_last: how many blocks are left to the head.
        lr_scales: factors of the learning rate by parameter of the ViT.
        normalized_with, bgr: as those of `TimmBackbone`.
        checkpointing: see `apply_blocks`.
        stem: embeds the patches, which learn as those of the ViT would, and normalises images.

    Raises:
        UserError: the ViT has fewer blocks.
    """

    def __init__(
        self,
        vit: Any,
        num_last: int,
        *,
        lr_scales: Mapping[str, float] | None = None,
        normalized_with: tuple[Sequence[float], Sequence[float]] | None = None,
        bgr: bool = False,
        checkpointing: bool = False,
        stem: FeaturePatches | None = None,
    ):
        super().__init__()
        split_index(vit, num_last)
        self.vit: Any = vit
        vit.blocks = vit.blocks[: len(vit.blocks) - num_last]
        vit.norm = vit.head = nn.Identity()
        scales = {f"vit.{name}": scale for name, scale in (lr_scales or {}).items()}
        if stem is not None:
            vit.patch_embed = stem
            scale = scales.get("vit.patch_embed.proj.weight", 1.0)
            scales |= {f"vit.patch_embed.{name}": scale for name, _ in stem.named_parameters()}
        own = dict(self.named_parameters())
        self._lr_scales = {name: scale for name, scale in scales.items() if name in own}
        self._set_normalization(vit.pretrained_cfg, normalized_with, bgr)
        self.checkpointing = checkpointing
        self.patch: int = vit.patch_embed.patch_size[0]
        self._divisibility = self.patch if stem is None else stem.backbone.size_divisibility
        self._out_features = [PATCHES, PREFIX]
        self._out_feature_strides = {PATCHES: self.patch, PREFIX: self.patch}
        self._out_feature_channels = dict.fromkeys(self._out_features, vit.embed_dim)

    @property
    def size_divisibility(self) -> int:
        """The side of a patch, or what the stem asks for: a larger stride of its features."""
        return self._divisibility

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised images (B, 3, H, W), padded with zeros to whole patches, to `patches`
        (B, C, H/patch, W/patch) and `prefix` (B, P, C), class and register tokens."""
        images = self._normalize(images)
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % self.patch, 0, -height % self.patch))
        grid: Tensor = self.vit.patch_embed(images)  # (B, h, w, C)
        embedded = self.vit._pos_embed(grid)
        x, rope = embedded if isinstance(embedded, tuple) else (embedded, None)
        x = apply_blocks(
            self.vit.blocks, self.vit.norm_pre(x), rope, checkpointing=self.checkpointing
        )
        count, size = self.vit.num_prefix_tokens, (grid.shape[1], grid.shape[2])
        return {PATCHES: x[:, count:].mT.unflatten(2, size), PREFIX: x[:, :count]}


def split_index(vit: Any, num_last: int) -> int:
    """Return the index of the first of the last blocks.

    Raises:
        UserError: the ViT has fewer blocks.
    """
    depth = len(vit.blocks)
    if not 0 < num_last <= depth:
        raise UserError(
            f"MODEL.MASK_FORMER.DEC_LAYERS: one less is the number of blocks that see the queries, "
            f"1 to {depth} of this ViT; got {num_last}."
        )
    return depth - num_last


@BACKBONE_REGISTRY.register()
def build_timm_vit_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ViTStart:
    """Build a `ViTStart` from MODEL.TIMM and MODEL.EOMT, with all blocks but those of `EoMTHead`.

    Raises:
        ImportError, UserError: see `build_vit`, `build_stem` and `normalized_with`.
    """
    vit = build_vit(cfg, input_shape.channels)
    stem = build_stem(cfg, vit.model, input_shape.channels)
    return ViTStart(
        vit.model,
        cfg.MODEL.MASK_FORMER.DEC_LAYERS - 1,
        lr_scales=vit.lr_scales,
        normalized_with=normalized_with(cfg) if stem is None else None,
        bgr=cfg.INPUT.FORMAT == "BGR",
        checkpointing=cfg.MODEL.TIMM.USE_CHECKPOINT,
        stem=stem,
    )
