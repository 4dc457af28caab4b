"""The transformer decoder of MaskFormer: DETR's decoder over one map.

Source: MaskFormer, Cheng et al. 2021, section 3.3 (transformer module).
"""

import torch
from torch import Tensor, nn

from ...config.arguments import configurable
from ...errors import UserError
from ...layers import MLP, SinePositionEncoding, TransformerDecoder, TransformerEncoder
from ...overrides import is_replaced, refuse_overrides, replaceable
from ..pixel_decoder.fpn import c2_xavier_conv
from ..registries import TRANSFORMER_DECODER_REGISTRY


def decoder_args(cfg, in_channels: int, mask_classification: bool) -> dict:
    """Read the arguments that all of our decoders have from a config."""
    mask_former = cfg.MODEL.MASK_FORMER
    return {
        "in_channels": in_channels,
        "mask_classification": mask_classification,
        "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
        "hidden_dim": mask_former.HIDDEN_DIM,
        "num_queries": mask_former.NUM_OBJECT_QUERIES,
        "nheads": mask_former.NHEADS,
        "dim_feedforward": mask_former.DIM_FEEDFORWARD,
        "pre_norm": mask_former.PRE_NORM,
        "mask_dim": cfg.MODEL.SEM_SEG_HEAD.MASK_DIM,
        "enforce_input_project": mask_former.ENFORCE_INPUT_PROJ,
    }


@TRANSFORMER_DECODER_REGISTRY.register()
class StandardTransformerDecoder(nn.Module):
    """Queries attend to all pixels of one map, which may first pass an encoder.

    Args:
        in_channels: channels of the map.
        mask_classification: predict a class of every query too; without it, each query stands
            for one class, as in the per-pixel baseline.
        num_classes: K, without no-object.
        hidden_dim: width C of encoder and decoder.
        num_queries: Q.
        nheads: attention heads.
        dropout: dropout of encoder and decoder.
        dim_feedforward: hidden width of the feed-forward networks.
        enc_layers: encoder layers, may be 0.
        dec_layers: decoder layers.
        pre_norm: normalise before attention instead of after.
        deep_supervision: predict after every layer, not only after the last.
        mask_dim: channels of the mask features.
        enforce_input_project: project the map even where it has the right width.
    """

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
        dropout: float,
        dim_feedforward: int,
        enc_layers: int,
        dec_layers: int,
        pre_norm: bool,
        deep_supervision: bool,
        mask_dim: int,
        enforce_input_project: bool,
    ):
        super().__init__()
        if not is_replaced(self, "forward"):
            refuse_overrides(self, ["_set_aux_loss"], "Override forward.")
        self.num_queries = num_queries
        self.mask_classification = mask_classification
        self.deep_supervision = deep_supervision
        self.position = SinePositionEncoding(hidden_dim // 2)
        layer = (hidden_dim, nheads, dim_feedforward, dropout, pre_norm)
        self.transformer = nn.ModuleDict(
            {
                "encoder": TransformerEncoder(enc_layers, *layer),
                "decoder": TransformerDecoder(dec_layers, *layer),
            }
        )
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        if in_channels != hidden_dim or enforce_input_project:
            self.input_proj = c2_xavier_conv(in_channels, hidden_dim, kernel_size=1)
        else:
            self.input_proj = nn.Identity()
        if mask_classification:
            self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embed = MLP(hidden_dim, hidden_dim, mask_dim, 3)

    @classmethod
    def from_config(cls, cfg, in_channels: int, mask_classification: bool):
        mask_former = cfg.MODEL.MASK_FORMER
        return {
            **decoder_args(cfg, in_channels, mask_classification),
            "dropout": mask_former.DROPOUT,
            "enc_layers": mask_former.ENC_LAYERS,
            "dec_layers": mask_former.DEC_LAYERS,
            "deep_supervision": mask_former.DEEP_SUPERVISION,
        }

    @replaceable
    def forward(
        self,
        x: Tensor,
        mask_features: Tensor,
        mask: Tensor | None = None,
        *,
        aux_outputs: bool = True,
    ) -> dict:
        """Predict masks and, with mask classification, classes.

        Args:
            x: the map that queries look at, (B, C', H', W').
            mask_features: (B, mask_dim, H, W).
            mask: padding masks (B, any height, any width), bool, True at pixels to leave out;
                position encodings still span the whole map.
            aux_outputs: also return the predictions of the layers before the last.

        Returns:
            `pred_logits` (B, Q, K+1) if mask_classification, `pred_masks` (B, Q, H, W) as logits
            and, with deep supervision and if wanted, `aux_outputs`, a list of dicts with these.

        Raises:
            UserError: x is not one map.
        """
        refuse_overrides(self, ["_set_aux_loss"], "Override forward.")
        if not isinstance(x, Tensor) or x.dim() != 4:
            raise UserError(
                "StandardTransformerDecoder takes one map (B, C, H, W), not several: set "
                "MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE to a feature of the backbone, "
                '"transformer_encoder" or "pixel_embedding".'
            )
        position = self.position(*x.shape[-2:], device=x.device)
        attend = None if mask is None else _unpadded(mask, x.shape[-2:])
        memory = self.input_proj(x).flatten(2).transpose(1, 2)  # (B, H'*W', C)
        memory = self.transformer["encoder"](memory, position, attend)
        query_position = self.query_embed.weight.expand(x.shape[0], -1, -1)
        layers = self.transformer["decoder"](
            torch.zeros_like(query_position), query_position, memory + position, memory, attend
        )
        if not (self.deep_supervision and aux_outputs):
            return self._predict(layers[-1], mask_features)
        predictions = [self._predict(queries, mask_features) for queries in layers]
        return {**predictions[-1], "aux_outputs": predictions[:-1]}

    def _predict(self, queries: Tensor, mask_features: Tensor) -> dict[str, Tensor]:
        masks = self.mask_embed(queries) @ mask_features.flatten(2)
        out = {"pred_masks": masks.unflatten(2, mask_features.shape[-2:])}
        if self.mask_classification:
            out["pred_logits"] = self.class_embed(queries)
        return out


def _unpadded(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where queries may look, (B, 1, 1, H*W), from a padding mask of any size."""
    mask = nn.functional.interpolate(mask[:, None].float(), size=size, mode="nearest")
    return ~mask.bool().flatten(2)[:, :, None]
