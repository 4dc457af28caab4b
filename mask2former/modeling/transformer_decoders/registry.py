"""The registry of transformer decoders, selected by MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME."""

from detectron2.utils.registry import Registry

TRANSFORMER_DECODER_REGISTRY = Registry("TRANSFORMER_MODULE")
TRANSFORMER_DECODER_REGISTRY.__doc__ = """
Transformer decoders, built as `cls(cfg, in_channels, mask_classification)`.

A decoder's `forward(x, mask_features, mask=None)` returns a dict with `pred_logits` (B, Q, K+1),
`pred_masks` (B, Q, H, W) and, optionally, `aux_outputs`, a list of dicts with the same two keys.
"""
