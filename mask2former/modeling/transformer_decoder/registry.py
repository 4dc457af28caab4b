"""The registry of transformer decoders, and what all of them read of a config."""

from detectron2.utils.registry import Registry

TRANSFORMER_DECODER_REGISTRY = Registry("TRANSFORMER_MODULE")
TRANSFORMER_DECODER_REGISTRY.__doc__ = """
Transformer decoders, built as `cls(cfg, in_channels, mask_classification)` and selected by
MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME.

A decoder's `forward(x, mask_features, mask=None)` returns a dict with `pred_logits` (B, Q, K+1),
`pred_masks` (B, Q, H, W) and, optionally, `aux_outputs`, a list of dicts with the same two keys.
"""

_OF_IMAGES = ("MultiScaleMaskedTransformerDecoder", "StandardTransformerDecoder")
_OF_CLIPS = ("VideoMultiScaleMaskedTransformerDecoder",)


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


def check_decoder(cfg, architecture: str, *, clips: bool) -> None:
    """Compare the decoder of a config with the meta-architecture that is to use it.

    Decoders and heads from elsewhere are not checked.

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
