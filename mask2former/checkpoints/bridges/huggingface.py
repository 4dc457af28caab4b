"""Mask2Former of Hugging Face's transformers: names of the weights.

The names are those of the files, which differ from those in memory in transformers 5.
"""

import re
from collections.abc import Mapping

import torch

from ...errors import UserError
from ..name_map import NameMap

PIXEL = ("sem_seg_head.pixel_decoder.", "model.pixel_level_module.decoder.")
QUERY = ("sem_seg_head.predictor.", "model.transformer_module.")
BACKBONE = ("backbone.", "model.pixel_level_module.encoder.")


def _under(prefixes: tuple[str, str], rules: list[tuple]) -> list[tuple]:
    ours, theirs = prefixes

    def behind(names: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return theirs + names if isinstance(names, str) else tuple(theirs + n for n in names)

    return [(ours + a, behind(b)) for a, b in rules]


_PIXEL_DECODER = _under(
    PIXEL,
    [
        ("input_proj.{l}.{i}.{p}", "input_projections.{l}.{i}.{p}"),
        ("transformer.level_embed", "level_embed"),
        ("mask_features.{p}", "mask_projection.{p}"),
        ("adapter_{i}.weight", "adapter_{i}.0.weight"),
        ("adapter_{i}.norm.{p}", "adapter_{i}.1.{p}"),
        ("layer_{i}.weight", "layer_{i}.0.weight"),
        ("layer_{i}.norm.{p}", "layer_{i}.1.{p}"),
    ],
) + _under(
    (PIXEL[0] + "transformer.encoder.layers.{i}.", PIXEL[1] + "encoder.layers.{i}."),
    [
        ("self_attn.sampling_offsets.{p}", "self_attn.sampling_offsets.{p}"),
        ("self_attn.attention_weights.{p}", "self_attn.attention_weights.{p}"),
        ("self_attn.value_proj.{p}", "self_attn.value_proj.{p}"),
        ("self_attn.output_proj.{p}", "self_attn.output_proj.{p}"),
        ("norm1.{p}", "self_attn_layer_norm.{p}"),
        ("linear1.{p}", "fc1.{p}"),
        ("linear2.{p}", "fc2.{p}"),
        ("norm2.{p}", "final_layer_norm.{p}"),
    ],
)

_DECODER = _under(
    QUERY,
    [
        ("query_feat.weight", "queries_features.weight"),
        ("query_embed.weight", "queries_embedder.weight"),
        ("level_embed.weight", "level_embed.weight"),
        ("decoder_norm.{p}", "decoder.layernorm.{p}"),
        ("mask_embed.layers.{i}.{p}", "decoder.mask_predictor.mask_embedder.{i}.0.{p}"),
    ],
)
# Three modules of ours for a layer, one of theirs.
_DECODER += _under(
    (QUERY[0] + "transformer_", QUERY[1] + "decoder.layers.{i}."),
    [
        ("self_attention_layers.{i}.self_attn.out_proj.{p}", "self_attn.out_proj.{p}"),
        ("self_attention_layers.{i}.norm.{p}", "self_attn_layer_norm.{p}"),
        (
            "self_attention_layers.{i}.self_attn.in_proj_{p}",
            ("self_attn.q_proj.{p}", "self_attn.k_proj.{p}", "self_attn.v_proj.{p}"),
        ),
        ("cross_attention_layers.{i}.multihead_attn.out_proj.{p}", "cross_attn.out_proj.{p}"),
        ("cross_attention_layers.{i}.multihead_attn.in_proj_{p}", "cross_attn.in_proj_{p}"),
        ("cross_attention_layers.{i}.norm.{p}", "cross_attn_layer_norm.{p}"),
        ("ffn_layers.{i}.linear1.{p}", "fc1.{p}"),
        ("ffn_layers.{i}.linear2.{p}", "fc2.{p}"),
        ("ffn_layers.{i}.norm.{p}", "final_layer_norm.{p}"),
    ],
)
_DECODER += [
    (QUERY[0] + "class_embed.{p}", "class_predictor.{p}"),
    ("criterion.empty_weight", "criterion.empty_weight"),
]

_SWIN = _under(
    BACKBONE,
    [
        ("patch_embed.proj.{p}", "embeddings.patch_embeddings.projection.{p}"),
        ("patch_embed.norm.{p}", "embeddings.norm.{p}"),
        ("layers.{s}.downsample.norm.{p}", "encoder.layers.{s}.downsample.norm.{p}"),
        ("layers.{s}.downsample.reduction.{p}", "encoder.layers.{s}.downsample.reduction.{p}"),
        ("norm{s}.{p}", "hidden_states_norms.stage{s+1}.{p}"),
    ],
) + _under(
    (BACKBONE[0] + "layers.{s}.blocks.{b}.", BACKBONE[1] + "encoder.layers.{s}.blocks.{b}."),
    [
        ("norm1.{p}", "layernorm_before.{p}"),
        (
            "attn.qkv.{p}",
            (
                "attention.self.query.{p}",
                "attention.self.key.{p}",
                "attention.self.value.{p}",
            ),
        ),
        ("attn.relative_position_{p}", "attention.self.relative_position_{p}"),
        ("attn.proj.{p}", "attention.output.dense.{p}"),
        ("norm2.{p}", "layernorm_after.{p}"),
        ("mlp.fc1.{p}", "intermediate.dense.{p}"),
        ("mlp.fc2.{p}", "output.dense.{p}"),
    ],
)

_RESNET = _under(
    BACKBONE,
    [
        ("stem.conv1.weight", "embedder.embedder.convolution.weight"),
        ("stem.conv1.norm.{p}", "embedder.embedder.normalization.{p}"),
    ],
) + _under(
    (BACKBONE[0] + "res{s+2}.{b}.", BACKBONE[1] + "encoder.stages.{s}.layers.{b}."),
    [
        ("shortcut.weight", "shortcut.convolution.weight"),
        ("shortcut.norm.{p}", "shortcut.normalization.{p}"),
        ("conv{n+1}.weight", "layer.{n}.convolution.weight"),
        ("conv{n+1}.norm.{p}", "layer.{n}.normalization.{p}"),
    ],
)
_MAP = NameMap(_PIXEL_DECODER + _DECODER + _SWIN + _RESNET)

# What transformers 5 calls a name of the file in memory (memory -> file).
_IN_MEMORY = tuple(
    (re.compile(re.escape(BACKBONE[1]) + old), BACKBONE[1] + new)
    for old, new in (
        (r"swin\.(embeddings|encoder)", r"\1"),
        (r"(.*)\.attention\.q_proj", r"\1.attention.self.query"),
        (r"(.*)\.attention\.k_proj", r"\1.attention.self.key"),
        (r"(.*)\.attention\.v_proj", r"\1.attention.self.value"),
        (r"(.*)\.attention\.o_proj", r"\1.attention.output.dense"),
        (r"(.*)\.attention\.relative_position_bias\.", r"\1.attention.self."),
        (r"(.*)\.mlp\.fc1", r"\1.intermediate.dense"),
        (r"(.*)\.mlp\.fc2", r"\1.output.dense"),
    )
)
# The norm after the whole Swin, which Mask2Former does not use; transformers 5 asks for it.
_LAST_NORM = BACKBONE[1] + "swin.layernorm."
# The classes that pilot queries start from, for training alone.
_PILOT = "sem_seg_head.predictor.pilot.weight"
_BATCHES = "num_batches_tracked"


def from_huggingface(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Translate the weights of a Mask2FormerForUniversalSegmentation to our names.

    Args:
        weights: as in a file of transformers 4 or 5, or from ``state_dict()``.

    Raises:
        UserError: they belong to another model; names what has no counterpart.
    """
    in_file = {}
    for name, tensor in weights.items():
        for pattern, replacement in _IN_MEMORY:
            name = pattern.sub(replacement, name)
        in_file[name] = tensor
    ours, unknown = _MAP.to_ours(in_file)
    unknown = [name for name in unknown if not name.startswith(_LAST_NORM)]
    if unknown or not ours:
        raise UserError(
            "Expected the weights of a Hugging Face Mask2FormerForUniversalSegmentation with a "
            f"Swin or ResNet backbone; no counterpart for {', '.join(unknown[:5])}."
        )
    return ours


def to_huggingface(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Translate our weights to the names in a file of Hugging Face's Mask2Former.

    Args:
        weights: of a model with ResNet or Swin backbone, MSDeformAttnPixelDecoder and
            MultiScaleMaskedTransformerDecoder, or its variant for video.

    Raises:
        UserError: they belong to another model; names what has no counterpart.
    """
    theirs, unknown = _MAP.to_theirs(weights)
    unknown = [name for name in unknown if name != _PILOT]
    if unknown or not theirs:
        raise UserError(
            "Hugging Face's Mask2Former has no counterpart for "
            f"{', '.join(unknown[:5])}{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''}"
            ". It has ResNet and Swin backbones without absolute positions, and the deformable "
            "pixel decoder with the multi-scale masked decoder."
        )
    for name in [name for name in theirs if name.endswith("normalization.running_var")]:
        batches = name.replace("running_var", _BATCHES)
        theirs.setdefault(batches, torch.tensor(0))  # a batch norm of theirs always has it
    last = BACKBONE[1] + "hidden_states_norms.stage4.weight"
    if last in theirs:
        theirs[_LAST_NORM + "weight"] = torch.ones_like(theirs[last])
        theirs[_LAST_NORM + "bias"] = torch.zeros_like(theirs[last])
    # A buffer that transformers computes.
    return {n: t for n, t in theirs.items() if not n.endswith("relative_position_index")}
