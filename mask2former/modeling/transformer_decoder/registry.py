"""The registry of transformer decoders, selected by MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME."""

from detectron2.utils.registry import Registry

TRANSFORMER_DECODER_REGISTRY = Registry("TRANSFORMER_MODULE")
TRANSFORMER_DECODER_REGISTRY.__doc__ = """
Transformer decoders, built as `cls(cfg, in_channels, mask_classification)`.

A decoder's `forward(x, mask_features, mask=None)` returns a dict with `pred_logits` (B, Q, K+1),
`pred_masks` (B, Q, H, W) and, optionally, `aux_outputs`, a list of dicts with the same two keys.
"""

_OF_IMAGES = ("MultiScaleMaskedTransformerDecoder", "StandardTransformerDecoder")
_OF_CLIPS = ("VideoMultiScaleMaskedTransformerDecoder",)


def check_decoder(cfg, architecture: str, *, clips: bool) -> None:
    """Compare the decoder of a config with the meta-architecture that is to use it.

    Decoders and heads of somebody else's are not judged.

    Raises:
        ValueError: the one is for images and the other for clips; says what to set.
    """
    name = cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME
    wrong, right = (_OF_IMAGES, _OF_CLIPS) if clips else (_OF_CLIPS, _OF_IMAGES)
    if name in wrong and cfg.MODEL.SEM_SEG_HEAD.NAME == "MaskFormerHead":
        raise ValueError(
            f"MODEL.META_ARCHITECTURE is {architecture}, which is for "
            f"{'clips' if clips else 'images'}, but the decoder {name} is for "
            f"{'images' if clips else 'clips'}: set MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME to "
            f"{' or '.join(right)}, or MODEL.META_ARCHITECTURE to "
            f"{'MaskFormer' if clips else 'VideoMaskFormer'}."
        )
