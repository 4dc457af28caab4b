"""The transformer decoder with masked attention, for images and for clips.

Source: Mask2Former, Cheng et al. 2022, section 3.2; for video, Cheng et al. 2021, section 3.
An image is a clip of one frame: both decoders are the same code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checkpoints.renames import rename_when_loading
from ...config.arguments import configurable, unless_default
from ...errors import UserError
from ...layers import (
    MLP,
    CrossAttentionLayer,
    FFNLayer,
    SelfAttentionLayer,
    SinePositionEncoding,
    xavier_matrices_,
)
from ...ops.linear import linear
from ...overrides import is_replaced, refuse_overrides, replaceable
from ..pixel_decoder.fpn import NUM_LEVELS, c2_xavier_conv
from ..registries import TRANSFORMER_DECODER_REGISTRY
from .pilot import NO_PILOTS, PilotBatch, PilotQueries, Pilots
from .standard import decoder_args

# Methods of the published class, and of one with its conventions, that subclasses may override.
_PUBLISHED_METHODS = ("forward_prediction_heads", "_set_aux_loss")
_INSTEAD = (
    "Override forward, or inherit from the class of this name in mask2former.modeling."
    "transformer_decoder.mask2former_transformer_decoder or, of clips, mask2former_video.modeling."
    "transformer_decoder.video_mask2former_transformer_decoder, which call them."
)


@TRANSFORMER_DECODER_REGISTRY.register()
class MultiScaleMaskedTransformerDecoder(nn.Module):
    """Queries attend to pixels inside the masks that they predicted one layer before.

    Args:
        in_channels: channels of the pixel decoder's maps.
        mask_classification: must be True; there is no per-pixel variant.
        num_classes: K, without no-object.
        hidden_dim: width C of the decoder.
        num_queries: Q.
        nheads: attention heads.
        dim_feedforward: hidden width of the feed-forward networks.
        dec_layers: decoder layers; predictions are made before the first and after each.
        pre_norm: normalise before attention instead of after.
        mask_dim: channels of the mask features.
        enforce_input_project: project the maps even where they have the right width.
        pilots: queries that are shown the targets while training; by default there are none.
    """

    _version = 2

    @configurable
    def __init__(
        self,
        in_channels: int,
        mask_classification: bool = True,
        *,
        num_classes: int,
        hidden_dim: int,
        num_queries: int,
        nheads: int,
        dim_feedforward: int,
        dec_layers: int,
        pre_norm: bool,
        mask_dim: int,
        enforce_input_project: bool,
        pilots: Pilots = NO_PILOTS,
    ):
        super().__init__()
        if not is_replaced(self, "forward"):
            refuse_overrides(self, _PUBLISHED_METHODS, _INSTEAD)
        if not mask_classification:
            raise ValueError(f"{type(self).__name__} only supports mask classification.")
        self.num_layers = dec_layers
        self.num_queries = num_queries
        self.position = SinePositionEncoding(hidden_dim // 2)
        self._add_layers(dec_layers, hidden_dim, nheads, dim_feedforward, pre_norm)
        xavier_matrices_(self)
        self.decoder_norm = nn.LayerNorm(hidden_dim)
        self.query_feat = nn.Embedding(num_queries, hidden_dim)
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.level_embed = nn.Embedding(NUM_LEVELS, hidden_dim)
        project = enforce_input_project or in_channels != hidden_dim
        self.input_proj = nn.ModuleList(
            c2_xavier_conv(in_channels, hidden_dim, kernel_size=1) if project else nn.Identity()
            for _ in range(NUM_LEVELS)
        )
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embed = MLP(hidden_dim, hidden_dim, mask_dim, 3)
        self.pilot = PilotQueries(num_classes, hidden_dim, pilots) if pilots.queries else None
        rename_when_loading(self)

    def _add_layers(self, count: int, dim: int, heads: int, ffn_dim: int, pre_norm: bool) -> None:
        layers = range(count)
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(dim, heads, pre_norm=pre_norm) for _ in layers
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(dim, heads, pre_norm=pre_norm) for _ in layers
        )
        self.transformer_ffn_layers = nn.ModuleList(
            FFNLayer(dim, ffn_dim, pre_norm=pre_norm) for _ in layers
        )

    @classmethod
    def from_config(cls, cfg, in_channels: int, mask_classification: bool):
        mask_former = cfg.MODEL.MASK_FORMER
        if mask_former.DEC_LAYERS < 1:
            raise UserError(
                "MODEL.MASK_FORMER.DEC_LAYERS counts the prediction made before the first layer, "
                f"so it must be at least 1; got {mask_former.DEC_LAYERS}."
            )
        args = decoder_args(cfg, in_channels, mask_classification)
        if not is_replaced(cls, "forward"):  # else nothing would run them
            args |= unless_default(cls, pilots=Pilots.of(cfg))
        return {**args, "dec_layers": mask_former.DEC_LAYERS - 1}

    def frames_of(self, batch: int) -> int:
        """Return the frames of a clip in a batch of so many maps: an image is a clip of one."""
        return 1

    @replaceable
    def forward(
        self,
        x: Sequence[Tensor],
        mask_features: Tensor,
        mask: Tensor | None = None,
        *,
        aux_outputs: bool = True,
    ) -> dict:
        """Predict classes and masks.

        Args:
            x: the pixel decoder's maps (B*T, C', H, W) of strides 32, 16 and 8.
            mask_features: (B*T, mask_dim, H/4, W/4).
            mask: padding masks (B*T, H', W') of any size, bool, True at pixels to leave out, as
                other decoders take them; accepted and ignored, as published: padded pixels take
                full part.
            aux_outputs: also return the predictions of the layers before the last. Without them,
                and in eval mode, attention masks are computed at the size that they are used at,
                which is equal up to rounding and far cheaper.

        Returns:
            `pred_logits` (B, Q, K+1), `pred_masks` (B, Q, H/4, W/4) as logits and, if wanted,
            `aux_outputs`, a list of dicts with these two, one a layer, first prediction first;
            else `pred_embeddings` (B, Q, C), the queries, by which objects are identified in video.
            Where pilot queries are shown targets, `pilots`, the `PilotBatch` with predictions.

        Raises:
            UserError: there are not exactly three maps.
        """
        refuse_overrides(self, _PUBLISHED_METHODS, _INSTEAD)
        frames = self.frames_of(mask_features.shape[0])
        features = mask_features.unflatten(0, (-1, frames))
        sizes = [tuple(m.shape[-2:]) for m in x]
        values, keys = self._level_tokens(x, frames)
        small = None
        if not (aux_outputs or self.training):
            small = [_resize(mask_features, s).unflatten(0, (-1, frames)) for s in sizes]
        queries = self.query_feat.weight.expand(features.shape[0], -1, -1)
        pilots = self.pilot and self.pilot.shown
        predictions = []
        for i in range(self.num_layers):
            level = i % NUM_LEVELS
            if small is None:
                predictions.append(self._predict(queries, features))
                masks = predictions[-1]["pred_masks"].detach()
                # As one channel each: with many, CPUs would first copy them to channels last.
                masks = _resize(masks.flatten(0, 2)[:, None], sizes[level]).view(
                    *masks.shape[:3], *sizes[level]
                )
            else:
                masks = self._mask_logits(self.decoder_norm(queries), small[level])
            queries = self._run_layer(i, queries, keys[level], values[level], masks, pilots)
            if pilots:
                pilots.keep(self._published_axes(self._predict(pilots.queries, features)))
        out = self._published_axes(self._predict(queries, features))
        if aux_outputs:
            out["aux_outputs"] = [self._published_axes(p) for p in predictions]
        else:
            out["pred_embeddings"] = self.decoder_norm(queries)
        return out | {"pilots": pilots} if pilots else out

    def _run_layer(
        self,
        index: int,
        queries: Tensor,
        key: Tensor,
        value: Tensor,
        mask_logits: Tensor,
        pilots: PilotBatch | None = None,
    ) -> Tensor:
        """Update the queries (B, Q, C), and those of pilots, from pixels inside their masks."""
        position = self.query_embed.weight[None]
        attend = _attention_mask(mask_logits)
        among = None  # which query sees which: all
        if pilots:
            size = (mask_logits.shape[-2], mask_logits.shape[-1])
            queries, position, attend, among = pilots.join(queries, position, attend, size)
        cross_attention = self.transformer_cross_attention_layers[index]
        queries = cross_attention(queries, position, key, value, attend)
        queries = self.transformer_self_attention_layers[index](queries, position, among)
        queries = self.transformer_ffn_layers[index](queries)
        return pilots.split(queries) if pilots else queries

    def _level_tokens(
        self, maps: Sequence[Tensor], frames: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return values and keys (B, T*H*W, C) of every level; keys carry the positions."""
        self._check_levels(maps)
        values, keys = [], []
        for i, m in enumerate(maps):
            tokens = self.input_proj[i](m).unflatten(0, (-1, frames))  # (B, T, C, H, W)
            tokens = tokens.flatten(3).transpose(2, 3).flatten(1, 2)
            values.append(tokens + self.level_embed.weight[i])
            keys.append(values[-1] + self.position(*m.shape[-2:], frames, device=m.device))
        return values, keys

    def _check_levels(self, maps: Sequence[Tensor]) -> None:
        if len(maps) != NUM_LEVELS:
            raise UserError(
                f"{type(self).__name__}: expected {NUM_LEVELS} maps (strides 32, 16, 8) from the "
                f"pixel decoder, got {len(maps)}."
            )

    def _mask_logits(self, normed: Tensor, features: Tensor) -> Tensor:
        """Multiply mask embeddings with features (B, T, C, h, w): (B, T, Q, h, w)."""
        embedding, pixels = self.mask_embed(normed)[:, None], features.flatten(3)
        if pixels.shape[:2] == (1, 1) and not torch.compiler.is_exporting():
            # Channels of one map that come last are read without a copy; those of several are not.
            masks = linear(embedding[0, 0], pixels[0, 0].T)[None, None]
        else:
            masks = embedding @ pixels
        return masks.unflatten(3, features.shape[-2:])

    def _predict(self, queries: Tensor, features: Tensor) -> dict[str, Tensor]:
        """Return class logits (B, Q, K+1) and mask logits (B, T, Q, h, w) of the queries."""
        normed = self.decoder_norm(queries)
        return {
            "pred_logits": self.class_embed(normed),
            "pred_masks": self._mask_logits(normed, features),
        }

    def _published_axes(self, prediction: dict[str, Tensor]) -> dict[str, Tensor]:
        """Bring masks (B, T, Q, h, w) to the published axes: without that of frames in an image."""
        return {**prediction, "pred_masks": prediction["pred_masks"].squeeze(1)}


@TRANSFORMER_DECODER_REGISTRY.register()
class VideoMultiScaleMaskedTransformerDecoder(MultiScaleMaskedTransformerDecoder):
    """The same decoder over clips: a query's mask spans all frames.

    While training, every `num_frames` maps are a clip; in eval all maps of the batch are one.
    Masks come out as (B, Q, T, H/4, W/4).
    """

    @configurable
    def __init__(self, in_channels: int, mask_classification: bool = True, *, num_frames, **args):
        super().__init__(in_channels, mask_classification, **args)
        self.num_frames = num_frames

    @classmethod
    def from_config(cls, cfg, in_channels: int, mask_classification: bool):
        args = super().from_config(cfg, in_channels, mask_classification)
        return {**args, "num_frames": cfg.INPUT.SAMPLING_FRAME_NUM}

    def frames_of(self, batch: int) -> int:
        """Return the frames of a clip in a batch of so many maps."""
        return self.num_frames if self.training else batch

    def _published_axes(self, prediction: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**prediction, "pred_masks": prediction["pred_masks"].transpose(1, 2)}


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


@torch.no_grad()
def _attention_mask(mask_logits: Tensor) -> Tensor:
    """Return where each query may look, (B, 1, Q, T*h*w), from logits (B, T, Q, h, w).

    The threshold is on the probability: a logit just below zero still rounds to 0.5 and attends.
    A query whose mask is empty attends everywhere.
    """
    attend = ~(mask_logits.sigmoid() < 0.5).flatten(3).transpose(1, 2).flatten(2)
    nowhere = ~attend.any(-1, keepdim=True)
    return (attend | nowhere)[:, None]
