"""A decoder as projects that track objects have them, written to the published names alone."""

import torch
from detectron2.config import configurable
from torch.nn import functional as F

from mask2former.modeling.transformer_decoder.position_encoding import PositionEmbeddingSine
from mask2former_video.modeling.transformer_decoder.video_mask2former_transformer_decoder import (
    MLP,
    VideoMultiScaleMaskedTransformerDecoder,
)


class FrameDecoder(VideoMultiScaleMaskedTransformerDecoder):
    """Looks at each frame by itself: a loop of its own over the inherited layers, heads of its own,
    and an embedding to identify objects by."""

    @configurable
    def __init__(
        self,
        in_channels,
        mask_classification=True,
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
        num_frames: int,
        reid_dim: int,
    ):
        super().__init__(
            in_channels=in_channels,
            mask_classification=mask_classification,
            num_classes=num_classes,
            hidden_dim=hidden_dim,
            num_queries=num_queries,
            nheads=nheads,
            dim_feedforward=dim_feedforward,
            dec_layers=dec_layers,
            pre_norm=pre_norm,
            mask_dim=mask_dim,
            enforce_input_project=enforce_input_project,
            num_frames=num_frames,
        )
        self.pe_layer = PositionEmbeddingSine(hidden_dim // 2, normalize=True)
        self.reid_embed = MLP(hidden_dim, hidden_dim, reid_dim, 2)

    @classmethod
    def from_config(cls, cfg, in_channels, mask_classification):
        args = super().from_config(cfg, in_channels, mask_classification)
        args["reid_dim"] = 4
        return args

    def forward(self, x, mask_features, mask=None):
        batch, frames = len(mask_features), self.num_frames if self.training else len(mask_features)
        keys, places = [], []
        for i in range(self.num_feature_levels):
            places.append(self.pe_layer(x[i], None).flatten(2).permute(2, 0, 1))
            level = self.input_proj[i](x[i]).flatten(2) + self.level_embed.weight[i][None, :, None]
            keys.append(level.permute(2, 0, 1))
        query_pos = self.query_embed.weight.unsqueeze(1).repeat(1, batch, 1)
        output = self.query_feat.weight.unsqueeze(1).repeat(1, batch, 1)
        size = x[0].shape[-2:]
        logits, masks, attn_mask, reid = self.forward_prediction_heads(output, mask_features, size)
        all_logits, all_masks = [logits], [masks]
        for i in range(self.num_layers):
            level = i % self.num_feature_levels
            attn_mask[torch.where(attn_mask.sum(-1) == attn_mask.shape[-1])] = False
            output = self.transformer_cross_attention_layers[i](
                output,
                keys[level],
                memory_mask=attn_mask,
                memory_key_padding_mask=None,
                pos=places[level],
                query_pos=query_pos,
            )
            output = self.transformer_self_attention_layers[i](
                output, tgt_mask=None, tgt_key_padding_mask=None, query_pos=query_pos
            )
            output = self.transformer_ffn_layers[i](output)
            size = x[(i + 1) % self.num_feature_levels].shape[-2:]
            logits, masks, attn_mask, reid = self.forward_prediction_heads(
                output, mask_features, attn_mask_target_size=size
            )
            all_logits.append(logits)
            all_masks.append(masks)
        clips = (batch // frames, frames)
        all_logits = [logits.unflatten(0, clips) for logits in all_logits]
        all_masks = [masks.unflatten(0, clips).transpose(1, 2) for masks in all_masks]
        return {
            "pred_logits": all_logits[-1],
            "pred_masks": all_masks[-1],
            "pred_reid": reid.unflatten(0, clips),
            "aux_outputs": self._set_aux_loss(all_logits, all_masks),
        }

    def forward_prediction_heads(self, output, mask_features, attn_mask_target_size):
        queries = self.decoder_norm(output).transpose(0, 1)
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_embed(queries), mask_features)
        blocked = F.interpolate(
            masks, size=attn_mask_target_size, mode="bilinear", align_corners=False
        )
        blocked = (
            blocked.sigmoid().flatten(2)[:, None].repeat(1, self.num_heads, 1, 1) < 0.5
        ).bool()
        return self.class_embed(queries), masks, blocked.flatten(0, 1), self.reid_embed(queries)
