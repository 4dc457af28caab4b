"""EoMT of Hugging Face's transformers, with DINOv2 and DINOv3: names of the weights."""

import re
from collections.abc import Mapping

import torch

from ...errors import UserError
from ..name_map import NameMap

_HEAD = [
    ("norm.{p}", "layernorm.{p}"),
    ("query.weight", "query.weight"),
    ("attn_mask_probs", "attn_mask_probs"),
    ("class_embed.{p}", "class_predictor.{p}"),
    ("mask_embed.0.{p}", "mask_head.fc1.{p}"),
    ("mask_embed.2.{p}", "mask_head.fc2.{p}"),
    ("mask_embed.4.{p}", "mask_head.fc3.{p}"),
    ("upscale.{i}.conv1.{p}", "upscale_block.block.{i}.conv1.{p}"),
    ("upscale.{i}.conv2.{p}", "upscale_block.block.{i}.conv2.{p}"),
    ("upscale.{i}.norm.{p}", "upscale_block.block.{i}.layernorm2d.{p}"),
    ("criterion.empty_weight", "criterion.empty_weight"),
]
_SHARED = [
    ("vit.cls_token", "embeddings.cls_token"),
    ("vit.reg_token", "embeddings.register_tokens"),
    ("blocks.{i}.norm1.{p}", "layers.{i}.norm1.{p}"),
    ("blocks.{i}.norm2.{p}", "layers.{i}.norm2.{p}"),
]
_QKV = tuple(f"layers.{{i}}.attention.{x}_proj." for x in "qkv")
_MAPS = {
    "eomt": NameMap(
        [
            *_HEAD,
            *_SHARED,
            ("vit.pos_embed", "embeddings.position_embeddings.weight"),
            ("vit.patch_embed.proj.{p}", "embeddings.patch_embeddings.projection.{p}"),
            ("blocks.{i}.attn.qkv.{p}", tuple(name + "{p}" for name in _QKV)),
            ("blocks.{i}.attn.proj.{p}", "layers.{i}.attention.out_proj.{p}"),
            ("blocks.{i}.ls1.gamma", "layers.{i}.layer_scale1.lambda1"),
            ("blocks.{i}.ls2.gamma", "layers.{i}.layer_scale2.lambda1"),
            ("blocks.{i}.mlp.fc1.{p}", "layers.{i}.mlp.fc1.{p}"),
            ("blocks.{i}.mlp.fc2.{p}", "layers.{i}.mlp.fc2.{p}"),
        ]
    ),
    "eomt_dinov3": NameMap(
        [
            *_HEAD,
            *_SHARED,
            ("vit.patch_embed.proj.{p}", "embeddings.patch_embeddings.{p}"),
            ("blocks.{i}.attn.qkv.weight", tuple(name + "weight" for name in _QKV)),
            ("blocks.{i}.attn.q_bias", _QKV[0] + "bias"),
            ("blocks.{i}.attn.v_bias", _QKV[2] + "bias"),
            ("blocks.{i}.attn.proj.{p}", "layers.{i}.attention.o_proj.{p}"),
            ("blocks.{i}.gamma_1", "layers.{i}.layer_scale1.lambda1"),
            ("blocks.{i}.gamma_2", "layers.{i}.layer_scale2.lambda1"),
            ("blocks.{i}.mlp.fc1.{p}", "layers.{i}.mlp.up_proj.{p}"),
            ("blocks.{i}.mlp.fc2.{p}", "layers.{i}.mlp.down_proj.{p}"),
        ]
    ),
}
_BLOCK = re.compile(r"(backbone\.vit\.|sem_seg_head\.|)blocks\.(\d+)\.(.*)")
_POSITIONS = "backbone.vit.pos_embed"
_REGISTERS = "embeddings.register_tokens"
_PILOT = "pilot.weight"  # the classes that pilot queries start from, for training alone


def from_huggingface(
    weights: Mapping[str, torch.Tensor], kind: str, num_blocks: int
) -> dict[str, torch.Tensor]:
    """Translate the weights of an EoMT of transformers to our names.

    Args:
        weights: as in its file, or from ``state_dict()``.
        kind: "eomt" or "eomt_dinov3".
        num_blocks: how many blocks see the queries.

    Raises:
        UserError: they belong to another model; names what has no counterpart.
    """
    given = {name: t for name, t in weights.items() if t.numel()}  # there may be no registers
    whole, unknown = _MAPS[kind].to_ours(given)
    if unknown or not whole:
        raise UserError(
            f"Expected the weights of a Hugging Face model of the kind {kind}; no counterpart for "
            f"{', '.join(unknown[:5])}."
        )
    depth = 1 + max((int(m[2]) for m in map(_BLOCK.fullmatch, whole) if m), default=-1)
    ours = {_split(name, depth - num_blocks): tensor for name, tensor in whole.items()}
    if _POSITIONS in ours:
        ours[_POSITIONS] = ours[_POSITIONS][None]
    return ours


def to_huggingface(weights: Mapping[str, torch.Tensor], kind: str) -> dict[str, torch.Tensor]:
    """Translate the weights of an `EoMTHead` and its `ViTStart` to transformers' names.

    Args:
        weights: ours.
        kind: "eomt" or "eomt_dinov3".

    Raises:
        UserError: they belong to another model; names what has no counterpart.
    """
    first = len({m[2] for m in map(_BLOCK.fullmatch, weights) if m and m[1] == "backbone.vit."})
    whole = {_join(name, first): tensor for name, tensor in weights.items()}
    theirs, unknown = _MAPS[kind].to_theirs(whole)
    unknown = [name for name in unknown if name != _PILOT]
    scale = "layers.0.layer_scale1.lambda1"
    if unknown or scale not in theirs:
        raise UserError(
            f"Hugging Face's {kind} has no counterpart for {', '.join(unknown[:5]) or 'this ViT'}: "
            "it takes ViTs as those of DINOv2 with registers, or of DINOv3, with layer scales and "
            "biases of queries and values, and no stem."
        )
    positions = "embeddings.position_embeddings.weight"
    if positions in theirs:
        theirs[positions] = theirs[positions][0]
    theirs.setdefault(_REGISTERS, torch.zeros(1, 0, len(theirs[scale])))
    return theirs


def _split(name: str, first: int) -> str:
    """Return our name of a weight of the whole ViT or of the head."""
    match = _BLOCK.fullmatch(name)
    if match:
        index = int(match[2])
        part = "backbone.vit." if index < first else "sem_seg_head."
        return f"{part}blocks.{index if index < first else index - first}.{match[3]}"
    if name.startswith("criterion."):
        return name
    return f"backbone.{name}" if name.startswith("vit.") else f"sem_seg_head.{name}"


def _join(name: str, first: int) -> str:
    """Return the name that `_split` makes one of ours of."""
    match = _BLOCK.fullmatch(name)
    if match:
        return f"blocks.{int(match[2]) + first * (match[1] == 'sem_seg_head.')}.{match[3]}"
    return name.removeprefix("backbone.").removeprefix("sem_seg_head.")
