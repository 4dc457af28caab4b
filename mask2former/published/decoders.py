"""The masked decoders with the published attributes and calls, to inherit from.

They have the parameters of our decoders and give the same numbers; those are faster, and what the
names in the registry stand for. Subclasses register themselves under names of their own.
"""

import logging
from abc import ABCMeta
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from detectron2.config import configurable
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import PositionEmbeddingSine, PositionEmbeddingSine3D
from ..modeling import TRANSFORMER_DECODER_REGISTRY
from ..modeling.transformer_decoder import masked
from .layers import CrossAttentionLayer, FFNLayer, SelfAttentionLayer

logger = logging.getLogger(__name__)


class _Patchable(ABCMeta):
    """The type of the two classes below, which stand in for ours where somebody may tell.

    Once an attribute of the class has been replaced, configs that name it build it in place of
    ours, until the attribute is put back. Decoders of ours are instances.
    """

    def __setattr__(cls, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        cls._choose()

    def __delattr__(cls, name: str) -> None:
        super().__delattr__(name)
        cls._choose()

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) or (
            cls in _AS_PUBLISHED and isinstance(instance, getattr(masked, cls.__name__))
        )

    def _choose(cls) -> None:
        """Register the class, or ours of this name, unless it is a subclass or is being made."""
        registered = TRANSFORMER_DECODER_REGISTRY._obj_map
        name, ours = cls.__name__, getattr(masked, cls.__name__, None)
        if cls not in _AS_PUBLISHED or registered[name] not in (cls, ours):
            return
        chosen = ours if dict(vars(cls)) == _AS_PUBLISHED[cls] else cls
        if chosen is not registered[name]:
            registered[name] = chosen
            logger.warning("Models that are built from now on have %s.%s", chosen.__module__, name)


_AS_PUBLISHED: dict[type, dict[str, Any]] = {}  # what is in the two, before anybody changes it


class MultiScaleMaskedTransformerDecoder(
    masked.MultiScaleMaskedTransformerDecoder, metaclass=_Patchable
):
    """Queries attend to pixels inside the masks that they predicted one layer before.

    Tokens are length first: queries (Q, B, C), pixels (S, B, C).

    Args:
        in_channels, mask_classification, num_classes, hidden_dim, num_queries, nheads,
        dim_feedforward, dec_layers, pre_norm, mask_dim, enforce_input_project: see the base class.

    Attributes:
        num_feature_levels, num_heads, num_layers, num_queries: numbers.
        pe_layer: positions of a map, called as `pe_layer(x, mask)`.
    """

    num_feature_levels = masked.NUM_LEVELS
    positions: ClassVar[type[nn.Module]] = PositionEmbeddingSine
    mask_product: ClassVar[str] = "bqc,bchw->bqhw"

    @configurable
    def __init__(self, in_channels: int, mask_classification: bool = True, **args: Any):
        super().__init__(in_channels, mask_classification, **args)
        self.mask_classification = mask_classification
        self.num_heads = args["nheads"]
        self.pe_layer = self.positions(args["hidden_dim"] // 2, normalize=True)

    def _add_layers(self, count: int, dim: int, heads: int, ffn_dim: int, pre_norm: bool) -> None:
        layers, norm = range(count), {"normalize_before": pre_norm}
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(dim, heads, **norm) for _ in layers
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(dim, heads, **norm) for _ in layers
        )
        self.transformer_ffn_layers = nn.ModuleList(FFNLayer(dim, ffn_dim, **norm) for _ in layers)

    def forward(
        self, x: Sequence[Tensor], mask_features: Tensor, mask: Tensor | None = None
    ) -> dict:
        """Predict classes and masks; arguments and result as the base class's, with aux_outputs."""
        memories, positions = self._level_tokens(x, self.frames_of(len(mask_features)))
        mask_features = self._as_clips(mask_features)
        sizes = [m.shape[-2:] for m in x]
        batch = len(mask_features)
        query_pos = self.query_embed.weight[:, None].repeat(1, batch, 1)
        output = self.query_feat.weight[:, None].repeat(1, batch, 1)
        predictions = [self.forward_prediction_heads(output, mask_features, sizes[0])]
        for i in range(self.num_layers):
            level, next_level = i % self.num_feature_levels, (i + 1) % self.num_feature_levels
            blocked = predictions[-1][2]
            output = self.transformer_cross_attention_layers[i](
                output,
                memories[level],
                memory_mask=blocked & ~blocked.all(-1, keepdim=True),  # an empty mask: everywhere
                memory_key_padding_mask=None,  # padded pixels take full part
                pos=positions[level],
                query_pos=query_pos,
            )
            output = self.transformer_self_attention_layers[i](
                output, tgt_mask=None, tgt_key_padding_mask=None, query_pos=query_pos
            )
            output = self.transformer_ffn_layers[i](output)
            predictions.append(
                self.forward_prediction_heads(output, mask_features, sizes[next_level])
            )
        classes, masks = ([p[i] for p in predictions] for i in (0, 1))
        return {
            "pred_logits": classes[-1],
            "pred_masks": masks[-1],
            "aux_outputs": self._set_aux_loss(classes, masks),
        }

    def forward_prediction_heads(
        self, output: Tensor, mask_features: Tensor, attn_mask_target_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict from the queries of a layer.

        Args:
            output: (Q, B, C).
            mask_features: (B, mask_dim, h, w), for clips (B, T, mask_dim, h, w).
            attn_mask_target_size: (H, W) of the level that the next layer looks at.

        Returns:
            class logits (B, Q, K+1), mask logits (B, Q, h, w) or (B, Q, T, h, w), and where the
            next layer may not look, (B*M, Q, H*W) or (B*M, Q, T*H*W), bool.
        """
        queries = self.decoder_norm(output).transpose(0, 1)
        mask_embed = self.mask_embed(queries)
        masks = torch.einsum(self.mask_product, mask_embed, mask_features)
        resized = F.interpolate(
            masks.detach().flatten(0, -3)[:, None],
            size=attn_mask_target_size,
            mode="bilinear",
            align_corners=False,
        )
        blocked = resized.sigmoid().view(*masks.shape[:-2], *resized.shape[-2:]).flatten(2) < 0.5
        blocked = blocked[:, None].repeat(1, self.num_heads, 1, 1).flatten(0, 1)
        return self.class_embed(queries), masks, blocked

    @staticmethod
    def _set_aux_loss(
        outputs_class: Sequence[Tensor], outputs_seg_masks: Sequence[Tensor]
    ) -> list[dict[str, Tensor]]:
        """Return the predictions of all layers but the last as dicts."""
        return [
            {"pred_logits": logits, "pred_masks": masks}
            for logits, masks in zip(outputs_class[:-1], outputs_seg_masks[:-1])
        ]

    def _level_tokens(
        self, maps: Sequence[Tensor], frames: int
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return pixels and positions (S, B, C) of every level."""
        self._check_levels(maps)
        memories, positions = [], []
        for i, m in enumerate(maps):
            level = (
                self._as_clips(self.input_proj[i](m)) + self.level_embed.weight[i][:, None, None]
            )
            memories.append(_length_first(level))
            positions.append(_length_first(self.pe_layer(self._as_clips(m), None)))
        return memories, positions

    def _as_clips(self, maps: Tensor) -> Tensor:
        """Return maps (B*T, C, H, W) with the axes that `pe_layer` takes."""
        return maps


class VideoMultiScaleMaskedTransformerDecoder(
    MultiScaleMaskedTransformerDecoder, masked.VideoMultiScaleMaskedTransformerDecoder
):
    """The same decoder over clips: while training, every `num_frames` maps; in eval all maps."""

    positions = PositionEmbeddingSine3D
    mask_product = "bqc,btchw->bqthw"

    def _as_clips(self, maps: Tensor) -> Tensor:
        """Return maps (B, T, C, H, W)."""
        return maps.unflatten(0, (-1, self.frames_of(len(maps))))


for _class in (MultiScaleMaskedTransformerDecoder, VideoMultiScaleMaskedTransformerDecoder):
    _AS_PUBLISHED[_class] = dict(vars(_class))


def _length_first(maps: Tensor) -> Tensor:
    """Return tokens (S, B, C) of maps (B, C, H, W) or (B, T, C, H, W)."""
    return maps.movedim(-3, -1).flatten(1, -2).transpose(0, 1)
