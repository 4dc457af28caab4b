"""The transformer decoder with masked attention, for masks that are given instead of predicted."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config.arguments import configurable
from ...ops.masks import cells_inside
from ..registries import TRANSFORMER_DECODER_REGISTRY
from ..transformer_decoder import MultiScaleMaskedTransformerDecoder
from ..transformer_decoder.masked import NUM_LEVELS


class Memory(NamedTuple):
    """What queries attend to, computed once for all masks of an image.

    Attributes:
        fine: (B, h*w, D), mask features as tokens.
        fine_size: (h, w) of the mask features.
        values, keys: (B, H*W, C) of every level, coarse to fine; keys carry positions.
        sizes: (H, W) of every level.
    """

    fine: Tensor
    fine_size: tuple[int, int]
    values: list[Tensor]
    keys: list[Tensor]
    sizes: list[tuple[int, int]]

    def of_image(self, index: int) -> Self:
        """Return the part of one image, with B = 1."""
        one = slice(index, index + 1)
        values, keys = [v[one] for v in self.values], [k[one] for k in self.keys]
        return self._replace(fine=self.fine[one], values=values, keys=keys)


@TRANSFORMER_DECODER_REGISTRY.register()
class MaskQueryDecoder(MultiScaleMaskedTransformerDecoder):
    """Classify given masks: one query per mask, which looks inside its mask only.

    The layers are those of `MultiScaleMaskedTransformerDecoder`, so that its weights fit. Instead
    of learned queries there are two linear maps, from the features under a mask to its query and
    from the mean position encoding under it to the query's position. Nothing predicts masks.

    In self-attention a query attends to itself only: the class of a mask does not depend on the
    other masks, nor on their number, so that they may come in chunks.

    Args: those of `MultiScaleMaskedTransformerDecoder`; `num_queries` has no effect.
    """

    @configurable
    def __init__(
        self,
        in_channels: int,
        mask_classification: bool = True,
        *,
        hidden_dim: int,
        mask_dim: int,
        **args,
    ):
        super().__init__(
            in_channels, mask_classification, hidden_dim=hidden_dim, mask_dim=mask_dim, **args
        )
        del self.query_feat, self.query_embed, self.mask_embed  # the queries come from the masks
        self.query_init = nn.Linear(mask_dim + NUM_LEVELS * hidden_dim, hidden_dim)
        self.query_position = nn.Linear(hidden_dim, hidden_dim)

    def new_modules(self) -> list[nn.Module]:
        """Return what makes and classifies the queries: the rest may come from a model that
        predicts masks, and stay frozen."""
        return [self.query_init, self.query_position, self.class_embed]

    def forward(
        self,
        x: Sequence[Tensor],
        mask_features: Tensor,
        coverage: Tensor,
        *,
        aux_outputs: bool = True,
    ) -> dict:
        """Classify masks.

        Args:
            x: the pixel decoder's maps (B, C', H, W) of strides 32, 16 and 8.
            mask_features: (B, mask_dim, h, w), of stride 4.
            coverage: (B, N, h, w), in 0..1; see `given_masks.mask_coverage`.
            aux_outputs: also return the predictions of the layers before the last.

        Returns:
            `pred_logits` (B, N, K+1) and, if wanted, `aux_outputs`, a list of dicts with the same,
            one a layer, first prediction first.

        Raises:
            UserError: there are not exactly three maps.
        """
        layers = self.classify(self.encode(x, mask_features), coverage)
        out = {"pred_logits": layers.pop()}
        if aux_outputs:
            out["aux_outputs"] = [{"pred_logits": logits} for logits in layers]
        return out

    def encode(self, x: Sequence[Tensor], mask_features: Tensor) -> Memory:
        """Compute what does not depend on the masks; the arguments are those of `forward`."""
        values, keys = self._level_tokens(x, 1)
        fine_size, *sizes = [(m.shape[-2], m.shape[-1]) for m in (mask_features, *x)]
        fine = mask_features.flatten(2).transpose(1, 2)
        return Memory(fine, fine_size, values, keys, sizes)

    def classify(self, memory: Memory, coverage: Tensor) -> list[Tensor]:
        """Return class logits (B, N, K+1) before the first layer and after each; see `forward`."""
        levels = [_pool(coverage, size).flatten(2) for size in memory.sizes]
        attend = [cells_inside(level)[:, None] for level in levels]
        queries, position = self._start(memory, coverage.flatten(2), levels)
        logits = [self.class_embed(self.decoder_norm(queries))]
        for i in range(self.num_layers):
            level = i % NUM_LEVELS
            queries = self.transformer_cross_attention_layers[i](
                queries, position, memory.keys[level], memory.values[level], attend[level]
            )
            alone = self.transformer_self_attention_layers[i](  # each query a batch of its own
                queries.flatten(0, 1)[:, None], position.flatten(0, 1)[:, None]
            )
            queries = self.transformer_ffn_layers[i](alone.view_as(queries))
            logits.append(self.class_embed(self.decoder_norm(queries)))
        return logits

    def _start(
        self, memory: Memory, coverage: Tensor, levels: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return queries and their positions, both (B, N, C), from the features under the masks."""
        under = [pooled_features(coverage, memory.fine)]
        under += [pooled_features(c, v) for c, v in zip(levels, memory.values)]
        encoding = self.position(*memory.fine_size, 1, device=coverage.device)
        where = pooled_features(coverage, encoding[None].to(coverage.dtype))
        return self.query_init(torch.cat(under, -1)), self.query_position(where)


def _pool(coverage: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the mean coverage (B, N, *size) of the cells of a coarser map."""
    if torch.compiler.is_exporting():  # there coarse cells are whole fine ones
        return F.avg_pool2d(coverage, int(coverage.shape[-2] // size[0]))
    return F.adaptive_avg_pool2d(coverage, size)


def pooled_features(coverage: Tensor, features: Tensor) -> Tensor:
    """Return the mean of the features under each mask, weighted by coverage.

    Args:
        coverage: (B, N, S), in 0..1.
        features: (B or 1, S, C).

    Returns:
        (B, N, C); zeros where a mask is empty.
    """
    weights = coverage / coverage.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return weights.to(features.dtype) @ features
