"""Mask2Former of Hugging Face's transformers: its config.json and preprocessor_config.json."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode

from ...config import get_config
from ...errors import UserError
from . import huggingface_defaults as defaults
from .backbones import STAGE_BLOCKS
from .config_values import (
    CRITERION_KEYS,
    copy_keys,
    get_key,
    has_stuff_and_things,
    label_entries,
    normalization_entries,
    set_classes,
    set_key,
    set_normalization,
)
from .huggingface_defaults import STAGES

logger = logging.getLogger(__name__)

# config.json -> keys under MODEL
_SHARED_KEYS = {
    "feature_size": "SEM_SEG_HEAD.CONVS_DIM",
    "mask_feature_size": "SEM_SEG_HEAD.MASK_DIM",
    "encoder_layers": "SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS",
    "common_stride": "SEM_SEG_HEAD.COMMON_STRIDE",
    "ignore_value": "SEM_SEG_HEAD.IGNORE_VALUE",
    "hidden_dim": "MASK_FORMER.HIDDEN_DIM",
    "decoder_layers": "MASK_FORMER.DEC_LAYERS",
    "num_attention_heads": "MASK_FORMER.NHEADS",
    "dim_feedforward": "MASK_FORMER.DIM_FEEDFORWARD",
    "dropout": "MASK_FORMER.DROPOUT",
    "pre_norm": "MASK_FORMER.PRE_NORM",
    **CRITERION_KEYS,
    "use_auxiliary_loss": "MASK_FORMER.DEEP_SUPERVISION",
}
_SWIN_KEYS = {
    "embed_dim": "SWIN.EMBED_DIM",
    "depths": "SWIN.DEPTHS",
    "num_heads": "SWIN.NUM_HEADS",
    "window_size": "SWIN.WINDOW_SIZE",
    "mlp_ratio": "SWIN.MLP_RATIO",
    "qkv_bias": "SWIN.QKV_BIAS",
    "patch_size": "SWIN.PATCH_SIZE",
    "image_size": "SWIN.PRETRAIN_IMG_SIZE",
    "drop_path_rate": "SWIN.DROP_PATH_RATE",
    "hidden_dropout_prob": "SWIN.DROP_RATE",
    "attention_probs_dropout_prob": "SWIN.ATTN_DROP_RATE",
}
_RESNET_KEYS = {
    "embedding_size": "RESNETS.STEM_OUT_CHANNELS",
    "downsample_in_bottleneck": "RESNETS.STRIDE_IN_1X1",
}
_FEATURES = ["res2", "res3", "res4", "res5"]
# What Hugging Face's model cannot be told: keys under MODEL and the only values it computes.
_FIXED = {
    "SEM_SEG_HEAD.NAME": ("MaskFormerHead",),
    "SEM_SEG_HEAD.PIXEL_DECODER_NAME": ("MSDeformAttnPixelDecoder",),
    "SEM_SEG_HEAD.NORM": ("GN",),
    "SEM_SEG_HEAD.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": (_FEATURES[1:],),
    "SEM_SEG_HEAD.IN_FEATURES": (_FEATURES,),
    "MASK_FORMER.TRANSFORMER_IN_FEATURE": ("multi_scale_pixel_decoder",),
    "MASK_FORMER.TRANSFORMER_DECODER_NAME": (
        "MultiScaleMaskedTransformerDecoder",
        "VideoMultiScaleMaskedTransformerDecoder",
    ),
    "MASK_FORMER.ENFORCE_INPUT_PROJ": (False,),
    "BACKBONE.NAME": ("build_resnet_backbone", "D2SwinTransformer"),
    "SWIN.APE": (False,),
    "SWIN.PATCH_NORM": (True,),
    "SWIN.QK_SCALE": (None,),
    "SWIN.PATCH_SIZE": (4,),
    "RESNETS.NUM_GROUPS": (1,),
    "RESNETS.RES5_DILATION": (1,),
}


def to_huggingface_config(
    cfg: CfgNode, class_names: Sequence[str] = (), thing_ids: Sequence[int] = ()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return config.json and preprocessor_config.json for the model of a config.

    Args:
        cfg: of a model with ResNet or Swin backbone.
        class_names: names of the K classes; "LABEL_0" and so on where they are not given.
        thing_ids: positions of those that are things; an entry of ours, which transformers keeps.

    Raises:
        UserError: Hugging Face's Mask2Former cannot compute what the config asks for, or
            ``class_names`` are not K names.
    """
    model = cfg.MODEL
    _check_fixed(model)
    config = {
        "architectures": ["Mask2FormerForUniversalSegmentation"],
        "model_type": "mask2former",
        "backbone_config": _backbone_config(model),
        **defaults.fixed("mask2former"),
        **label_entries(model.SEM_SEG_HEAD.NUM_CLASSES, class_names, thing_ids),
        **{theirs: get_key(model, ours) for theirs, ours in _SHARED_KEYS.items()},
        "use_auxiliary_loss": True,  # without it none of transformers' models runs
    }
    return config, _preprocessor(cfg)


def from_huggingface_config(config: dict[str, Any], preprocessor: dict[str, Any]) -> CfgNode:
    """Return a config for the model of a Hugging Face folder.

    Which task the model is for is not in the folder, nor, unless we wrote it, which classes are
    things: semantic and instance output are turned on, and panoptic output where things are known;
    else it needs DATASETS.TRAIN, or MODEL.CLASSES.THING_IDS, besides PANOPTIC_ON.

    Args:
        config: content of config.json.
        preprocessor: content of preprocessor_config.json; may be empty.

    Raises:
        UserError: it is another model, or has a backbone other than Swin or ResNet.
    """
    if config.get("model_type") != "mask2former":
        raise UserError(
            f"config.json: expected model_type mask2former, got {config.get('model_type')!r}."
        )
    cfg = get_config()
    for key, values in _FIXED.items():
        if key.startswith(("SEM_SEG_HEAD", "MASK_FORMER")):
            set_key(cfg.MODEL, key, values[0])
    cfg.MODEL.META_ARCHITECTURE = "MaskFormer"
    set_classes(cfg, config)
    given = defaults.complete(config, "mask2former")
    if given["feature_size"] != given["hidden_dim"]:
        raise UserError("config.json: feature_size and hidden_dim differ; cannot be converted.")
    copy_keys(given, cfg.MODEL, _SHARED_KEYS)
    _set_backbone(cfg.MODEL, _given_backbone(config))
    test = cfg.MODEL.MASK_FORMER.TEST
    test.SEMANTIC_ON = test.INSTANCE_ON = True
    test.PANOPTIC_ON = has_stuff_and_things(cfg)
    test.OBJECT_MASK_THRESHOLD = test.OVERLAP_THRESHOLD = 0.8
    _set_input(cfg, preprocessor)
    return cfg


def _check_fixed(model: CfgNode) -> None:
    unused = "RESNETS." if model.BACKBONE.NAME == "D2SwinTransformer" else "SWIN."
    for key, allowed in _FIXED.items():
        if key.startswith(unused):
            continue
        value = get_key(model, key)
        value = list(value) if isinstance(value, list | tuple) else value
        if value not in allowed:
            raise UserError(
                f"MODEL.{key}: Hugging Face's Mask2Former computes "
                f"{' or '.join(map(str, allowed))} only, the config has {value}."
            )
    if model.SEM_SEG_HEAD.COMMON_STRIDE > defaults.MAX_STRIDE:
        raise UserError(
            "MODEL.SEM_SEG_HEAD.COMMON_STRIDE: Hugging Face's Mask2Former computes "
            f"{defaults.MAX_STRIDE} at most as ours, the config has "
            f"{model.SEM_SEG_HEAD.COMMON_STRIDE}."
        )
    resnet = model.RESNETS
    width = resnet.RES2_OUT_CHANNELS // 4
    if unused == "SWIN." and resnet.DEPTH >= 50 and width != resnet.WIDTH_PER_GROUP:
        raise UserError(
            "MODEL.RESNETS.WIDTH_PER_GROUP: Hugging Face's ResNet has a quarter of "
            f"RES2_OUT_CHANNELS, {width}, the config has {resnet.WIDTH_PER_GROUP}."
        )
    if model.SEM_SEG_HEAD.CONVS_DIM != model.MASK_FORMER.HIDDEN_DIM:
        raise UserError(
            "Hugging Face's Mask2Former has no projection between widths: MODEL.SEM_SEG_HEAD."
            f"CONVS_DIM is {model.SEM_SEG_HEAD.CONVS_DIM}, MODEL.MASK_FORMER.HIDDEN_DIM is "
            f"{model.MASK_FORMER.HIDDEN_DIM}."
        )


def _backbone_config(model: CfgNode) -> dict[str, Any]:
    common = {"out_features": STAGES}
    if model.BACKBONE.NAME == "D2SwinTransformer":
        keys = {theirs: get_key(model, ours) for theirs, ours in _SWIN_KEYS.items()}
        return {"model_type": "swin", **defaults.fixed("swin"), **common, **keys}
    width = model.RESNETS.RES2_OUT_CHANNELS
    return {
        "model_type": "resnet",
        **defaults.fixed("resnet"),
        "depths": STAGE_BLOCKS[model.RESNETS.DEPTH],
        "layer_type": "basic" if model.RESNETS.DEPTH < 50 else "bottleneck",
        "hidden_sizes": [width * 2**i for i in range(4)],
        **common,
        **{theirs: get_key(model, ours) for theirs, ours in _RESNET_KEYS.items()},
    }


def _given_backbone(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return backbone_config, or what transformers takes in its place."""
    given = config.get("backbone_config")
    if given is None and config.get("backbone") is None:
        return defaults.DEFAULT_BACKBONE
    kind = given.get("model_type") if isinstance(given, Mapping) else config.get("backbone", given)
    if not isinstance(given, Mapping) or kind not in ("swin", "resnet"):
        raise UserError(f"config.json: expected a swin or resnet backbone, got {kind!r}.")
    features = given.get("out_features")
    if features != STAGES and (features or given.get("out_indices") != [1, 2, 3, 4]):
        raise UserError(
            f"config.json: expected the backbone's out_features to be {STAGES}, got {features}."
        )
    return given


def _set_backbone(model: CfgNode, backbone: Mapping[str, Any]) -> None:
    kind = backbone["model_type"]
    given = defaults.complete(backbone, kind)
    if kind == "swin":
        model.BACKBONE.NAME = "D2SwinTransformer"
        copy_keys(given, model, _SWIN_KEYS)
        return
    model.BACKBONE.NAME = "build_resnet_backbone"
    model.BACKBONE.FREEZE_AT = 0
    layers = (list(given["depths"]), given["layer_type"] == "basic")
    found = [d for d, blocks in STAGE_BLOCKS.items() if (blocks, d < 50) == layers]
    if not found:
        raise UserError(f"config.json: detectron2 has no ResNet with stages of {layers[0]}.")
    widths = list(given["hidden_sizes"])
    if widths != [widths[0] * 2**i for i in range(4)]:
        raise UserError(
            "config.json: expected hidden_sizes that are each twice the one before, as those of "
            f"detectron2's ResNet are, got {widths}."
        )
    is_basic = found[0] < 50
    if (is_basic and widths[0] != 64) or widths[0] % 4:
        raise UserError(
            "config.json: expected hidden_sizes as detectron2's ResNet has them, from 64 on with "
            f"basic layers and from a multiple of 4 on with others, got {widths}."
        )
    model.RESNETS.DEPTH = found[0]
    model.RESNETS.WIDTH_PER_GROUP = 64 if is_basic else widths[0] // 4
    model.RESNETS.OUT_FEATURES = _FEATURES
    model.RESNETS.RES2_OUT_CHANNELS = widths[0]
    copy_keys(given, model, _RESNET_KEYS)


def _preprocessor(cfg: CfgNode) -> dict[str, Any]:
    return {
        "image_processor_type": "Mask2FormerImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": cfg.INPUT.MIN_SIZE_TEST, "longest_edge": cfg.INPUT.MAX_SIZE_TEST},
        "size_divisor": max(cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY, 1),
        "resample": 2,
        **normalization_entries(cfg),
        "ignore_index": 255,
        "do_reduce_labels": False,
    }


def _set_input(cfg: CfgNode, preprocessor: dict[str, Any]) -> None:
    set_normalization(cfg, preprocessor)
    given = defaults.complete(preprocessor, "image processor")
    size = defaults.complete(_sides(preprocessor), "size")
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = size["shortest_edge"], size["longest_edge"]
    if not given["do_resize"]:
        cfg.INPUT.MIN_SIZE_TEST = 0  # images keep their size
    cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY = given["size_divisor"]


def _sides(preprocessor: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shorter and longer side of images, as far as they are given.

    A fixed height and width have no counterpart: the lesser is the shorter side.
    """
    size = preprocessor.get("size")
    if size is not None and not isinstance(size, Mapping):  # as before transformers 4.27
        return {"shortest_edge": size, "longest_edge": preprocessor.get("max_size")}
    given = dict(size or {})
    if given.get("height") is None or given.get("width") is None:
        return given
    sides = [defaults.complete({"shortest_edge": given[x]}, "size") for x in ("height", "width")]
    height, width = (side["shortest_edge"] for side in sides)
    logger.warning(
        "preprocessor_config.json resizes images to %s x %s pixels, whatever their shape; here "
        "they keep it, and the shorter side gets %s pixels: see INPUT.MIN_SIZE_TEST",
        height,
        width,
        min(height, width),
    )
    longest = max(defaults.DEFAULTS["size"]["longest_edge"], height, width)
    return {"shortest_edge": min(height, width), "longest_edge": longest}
