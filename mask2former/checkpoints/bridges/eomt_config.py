"""EoMT of Hugging Face's transformers: its config.json and preprocessor_config.json."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode

from ...config import get_config
from ...errors import UserError
from . import huggingface_defaults as defaults
from .config_values import (
    CRITERION_KEYS,
    copy_keys,
    get_key,
    has_stuff_and_things,
    label_entries,
    normalization_entries,
    set_classes,
    set_normalization,
)

# config.json -> keys under MODEL
_COMMON_KEYS = {
    **CRITERION_KEYS,
    "num_upscale_blocks": "EOMT.UPSCALE_BLOCKS",
    "drop_path_rate": "TIMM.DROP_PATH_RATE",
}
_VIT_KEYS = {
    "hidden_size": "EOMT.EMBED_DIM",
    "num_hidden_layers": "EOMT.DEPTH",
    "num_attention_heads": "EOMT.NUM_HEADS",
    "num_register_tokens": "EOMT.REGISTERS",
    "patch_size": "EOMT.PATCH_SIZE",
    "layer_norm_eps": "EOMT.NORM_EPS",
}
# timm's models, in which everything is as in transformers' but what the keys above change.
_VITS = {
    "eomt": "vit_{}_patch14_reg4_dinov2",
    "eomt_dinov3": "vit_{}_patch16_dinov3_qkvb",
}
_SIZES = {384: "small", 768: "base", 1024: "large"}
_THETA = 100.0  # of the rotary positions
_UNLIMITED = 100_000  # pixels of a longer side that windows cover


def kind_of(model: Any) -> str:
    """Return the kind of transformers' model that has the ViT of one of ours."""
    return "eomt" if model.sem_seg_head.rope is None else "eomt_dinov3"


def to_eomt_config(
    cfg: CfgNode, class_names: Sequence[str], thing_ids: Sequence[int], model: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config.json and preprocessor_config.json for a model with an `EoMTHead`.

    Args:
        cfg: its config.
        class_names: names of the K classes; "LABEL_0" and so on where they are not given.
        thing_ids: positions of those that are things.
        model: what `cfg` describes, which knows the sizes of its ViT.

    Raises:
        UserError: Hugging Face's EoMT cannot compute what the model does.
    """
    kind, vit, head = kind_of(model), model.backbone.vit, model.sem_seg_head
    height, width = cfg.MODEL.EOMT.IMAGE_SIZE
    if height != width:
        raise UserError(
            f"MODEL.EOMT.IMAGE_SIZE: Hugging Face's EoMT takes squares, got {[height, width]}."
        )
    block = head.blocks[0]
    hidden = block.mlp.fc1.out_features
    ratio, rest = divmod(hidden, vit.embed_dim)
    if kind == "eomt" and rest:
        raise UserError(
            "MODEL.EOMT.MLP_RATIO: Hugging Face's EoMT takes whole numbers, here it is "
            f"{hidden / vit.embed_dim}."
        )
    name = (
        "EomtForUniversalSegmentation" if kind == "eomt" else "EomtDinov3ForUniversalSegmentation"
    )
    config = {
        "architectures": [name],
        "model_type": kind,
        **defaults.fixed(kind),
        **label_entries(cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, class_names, thing_ids),
        **{theirs: get_key(cfg.MODEL, ours) for theirs, ours in _COMMON_KEYS.items()},
        "hidden_size": vit.embed_dim,
        "num_hidden_layers": len(vit.blocks) + len(head.blocks),
        "num_attention_heads": block.attn.num_heads,
        "num_register_tokens": vit.num_prefix_tokens - 1,
        "num_blocks": len(head.blocks),
        "patch_size": model.backbone.patch,
        "image_size": height,
        "layer_norm_eps": head.norm.eps,
        **({"mlp_ratio": ratio} if kind == "eomt" else {"intermediate_size": hidden}),
    }
    if kind == "eomt_dinov3":
        config["rope_parameters"] = {"rope_theta": _THETA, "rope_type": "default"}
    return config, _preprocessor(cfg, height)


def from_eomt_config(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> CfgNode:
    """Return a config for the model of a Hugging Face folder of EoMT.

    Images are split into windows where the folder's image processor does so, and only semantic
    output is on then; else as `from_huggingface_config`.

    Args:
        config: content of config.json.
        preprocessor: content of preprocessor_config.json; may be empty.

    Raises:
        UserError: a value with which we cannot compute.
    """
    kind = config["model_type"]
    given = defaults.complete(config, kind)
    theta = _rope_theta(config)
    if theta != _THETA:
        raise UserError(f"{kind}: rope_theta: {_THETA} alone can be converted, got {theta!r:.80}.")
    cfg = get_config()
    model, former = cfg.MODEL, cfg.MODEL.MASK_FORMER
    model.META_ARCHITECTURE = "MaskFormer"
    model.BACKBONE.NAME = "build_timm_vit_backbone"
    model.SEM_SEG_HEAD.NAME = "EoMTHead"
    model.TIMM.NAME = _VITS[kind].format(_SIZES.get(given["hidden_size"], "small"))
    copy_keys(given, model, _COMMON_KEYS | _VIT_KEYS)
    hidden = given["mlp_ratio"] if kind == "eomt" else given["intermediate_size"]
    model.EOMT.MLP_RATIO = float(hidden if kind == "eomt" else hidden / given["hidden_size"])
    model.EOMT.IMAGE_SIZE = [given["image_size"]] * 2
    former.DEC_LAYERS = given["num_blocks"] + 1
    former.SIZE_DIVISIBILITY = given["image_size"]
    set_classes(cfg, config)
    set_normalization(cfg, preprocessor)
    _set_input(cfg, preprocessor, given["image_size"])
    return cfg


def _rope_theta(config: Mapping[str, Any]) -> Any:
    """Return the base of the rotary positions, from where transformers takes it, old keys too."""
    given = config.get("rope_scaling") or config.get("rope_parameters")
    inner = given.get("rope_theta") if isinstance(given, Mapping) else None
    theta = config.get("rope_theta") if inner is None else inner
    return _THETA if theta is None else theta


def _preprocessor(cfg: CfgNode, size: int) -> dict[str, Any]:
    window = cfg.MODEL.MASK_FORMER.TEST.SEMANTIC_WINDOW
    return {
        "image_processor_type": "EomtImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": window or size, "longest_edge": None if window else size},
        "resample": 2,
        "do_split_image": bool(window),
        "do_pad": not window,
        **normalization_entries(cfg),
    }


def _set_input(cfg: CfgNode, preprocessor: Mapping[str, Any], image_size: int) -> None:
    test, size = cfg.MODEL.MASK_FORMER.TEST, preprocessor.get("size")
    if size is not None and not isinstance(size, Mapping):
        raise UserError(
            "image processor: size: expected shortest_edge and longest_edge in pixels, got "
            f"{size!r:.80}."
        )
    sides = defaults.complete(size or {}, "eomt size")
    if defaults.complete(preprocessor, "eomt image processor")["do_split_image"]:
        test.SEMANTIC_WINDOW = cfg.INPUT.MIN_SIZE_TEST = sides["shortest_edge"] or image_size
        cfg.INPUT.MAX_SIZE_TEST = _UNLIMITED
        return
    cfg.INPUT.MIN_SIZE_TEST = cfg.INPUT.MAX_SIZE_TEST = sides["longest_edge"] or image_size
    cfg.MODEL.MASK_FORMER.PAD_VALUE = 0.0  # padded before it is normalised
    test.INSTANCE_ON, test.PANOPTIC_ON = True, has_stuff_and_things(cfg)
    test.OBJECT_MASK_THRESHOLD = test.OVERLAP_THRESHOLD = 0.8
