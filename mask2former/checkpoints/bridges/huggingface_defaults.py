"""What Hugging Face's config classes take where a config.json lacks a key.

Files lack what transformers does not write, such as the two classes that are its default, and what
somebody has left out. The values are those of the versions from 4.26, which brought Mask2Former, to
5.17: all of them agree, so that the version that wrote a file need not be looked at. Keys without
influence on the model's outputs and losses (initial values and the like) are not here.
"""

import math
from collections.abc import Mapping
from typing import Any

from ...errors import UserError

STAGES = ["stage1", "stage2", "stage3", "stage4"]
_MAX_DIGITS = 20  # of numbers of classes; Python reads none of thousands of digits
NUM_LABELS = 2  # named LABEL_0 and LABEL_1
DEFAULTS: dict[str, dict[str, Any]] = {
    "mask2former": {
        "feature_size": 256,
        "mask_feature_size": 256,
        "hidden_dim": 256,
        "encoder_feedforward_dim": 1024,
        "activation_function": "relu",
        "encoder_layers": 6,
        "decoder_layers": 10,
        "num_attention_heads": 8,
        "dropout": 0.0,
        "dim_feedforward": 2048,
        "pre_norm": False,
        "enforce_input_projection": False,
        "common_stride": 4,
        "ignore_value": 255,
        "num_queries": 100,
        "no_object_weight": 0.1,
        "class_weight": 2.0,
        "mask_weight": 5.0,
        "dice_weight": 5.0,
        "train_num_points": 12544,
        "oversample_ratio": 3.0,
        "importance_sample_ratio": 0.75,
        "use_auxiliary_loss": True,
        "feature_strides": [4, 8, 16, 32],
    },
    "image processor": {
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "size_divisor": 32,
        "do_resize": True,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
    },
    "size": {"shortest_edge": 800, "longest_edge": 1333},
    "eomt image processor": {"do_split_image": False},
    "eomt size": {"shortest_edge": 0, "longest_edge": 0},  # that of the model's images
    "swin": {
        "image_size": 224,
        "patch_size": 4,
        "num_channels": 3,
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
        "window_size": 7,
        "mlp_ratio": 4.0,
        "qkv_bias": True,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "drop_path_rate": 0.1,
        "hidden_act": "gelu",
        "use_absolute_embeddings": False,
        "layer_norm_eps": 1e-5,
    },
    "resnet": {
        "num_channels": 3,
        "embedding_size": 64,
        "hidden_sizes": [256, 512, 1024, 2048],
        "depths": [3, 4, 6, 3],
        "layer_type": "bottleneck",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    },
}
_EOMT = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_register_tokens": 4,
    "num_blocks": 4,
    "num_upscale_blocks": 2,
    "image_size": 640,
    "patch_size": 16,
    "num_channels": 3,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_dropout": 0.0,
    "drop_path_rate": 0.0,
    "num_queries": 200,
    "no_object_weight": 0.1,
    "class_weight": 2.0,
    "mask_weight": 5.0,
    "dice_weight": 5.0,
    "train_num_points": 12544,
    "oversample_ratio": 3.0,
    "importance_sample_ratio": 0.75,
}
DEFAULTS["eomt"] = _EOMT | {"mlp_ratio": 4.0, "use_swiglu_ffn": False}
DEFAULTS["eomt_dinov3"] = _EOMT | {
    "intermediate_size": 4096,
    "query_bias": True,
    "key_bias": False,
    "value_bias": True,
    "proj_bias": True,
    "mlp_bias": True,
    "use_gated_mlp": False,
}
# Where there is no backbone_config at all; its other keys are Swin's defaults.
DEFAULT_BACKBONE = {
    "model_type": "swin",
    "depths": [2, 2, 18, 2],
    "drop_path_rate": 0.3,
    "out_features": STAGES,
}
# Sizes that are at least 1; 0 in some keys of our configs stands for a default.
_POSITIVE = {
    *("common_stride", "embed_dim", "embedding_size", "hidden_dim", "hidden_size", "image_size"),
    *("intermediate_size", "mask_feature_size", "mlp_ratio", "num_attention_heads", "num_heads"),
    *("num_hidden_layers", "num_queries", "patch_size", "window_size"),
}
_UP_TO_1 = {"dropout", "drop_path_rate"}
# What no model has more of, so that a file cannot ask for any amount of memory or time.
_MAX_LAYERS, _MAX_SIZE, _MAX_POINTS = 1000, 100_000, 10**7
MAX_STRIDE = 8  # of the masks: that of the finest feature that the encoder sees
_LAYERS = {
    *("decoder_layers", "depths", "encoder_layers", "num_blocks", "num_hidden_layers"),
    "num_upscale_blocks",
}
_FACTORS = {"image_mean", "image_std", "rescale_factor"}  # of pixels: no sizes
# Keys with which we compute in one way only: the default.
FIXED = {
    "mask2former": (
        "activation_function",
        "encoder_feedforward_dim",
        "enforce_input_projection",
        "feature_strides",
    ),
    "swin": (
        "hidden_act",
        "layer_norm_eps",
        "num_channels",
        "patch_size",  # feature_strides of Mask2Former are those of 4
        "use_absolute_embeddings",
    ),
    "resnet": ("downsample_in_first_stage", "hidden_act", "num_channels"),
    "eomt": ("num_channels", "hidden_act", "hidden_dropout_prob", "attention_dropout"),
}
FIXED["eomt_dinov3"] = (
    *FIXED["eomt"],
    *("query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias", "use_gated_mlp"),
)
FIXED["eomt"] += ("use_swiglu_ffn",)


def complete(given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the keys of a file, those that are absent or null with their defaults.

    Args:
        given: content of a file, or the part of it that belongs to ``kind``.
        kind: one of `DEFAULTS`.

    Raises:
        UserError: a value of another type, or one with which we cannot compute.
    """
    found = {}
    for key, default in DEFAULTS[kind].items():
        value = given.get(key)
        value = default if value is None else value
        if key in ("image_size", "patch_size") and isinstance(value, list) and len(value) == 2:
            value = value[0] if value[0] == value[1] else value
        if _is_like(value, default) and (most := _exceeded(key, value)):
            raise UserError(f"{kind}: {key}: expected {most} at most, got {value!r:.80}.")
        if not _is_like(value, default) or not _is_in_range(key, value):
            raise UserError(
                f"{kind}: {key}: expected a value such as {default}, got {value!r:.80}."
            )
        if key in FIXED.get(kind, ()) and value != default:
            raise UserError(
                f"{kind}: {key}: {default!r} alone can be converted, got {value!r:.80}."
            )
        found[key] = value
    return found


def fixed(kind: str) -> dict[str, Any]:
    """Return the keys of `FIXED` with their values."""
    return {key: DEFAULTS[kind][key] for key in FIXED[kind]}


def labels(config: Mapping[str, Any]) -> tuple[int, dict[int, Any]]:
    """Return the number of classes, and what stands for their names by index; {} where none does.

    Raises:
        UserError: id2label or num_labels of another form, or without a class.
    """
    given, number = config.get("id2label"), config.get("num_labels")
    if given is None:
        number = NUM_LABELS if number is None else number
        if not _is_like(number, NUM_LABELS) or not 1 <= number <= _MAX_SIZE:
            raise UserError(
                f"config.json: num_labels: expected 1 to {_MAX_SIZE}, got {number!r:.80}."
            )
        return number, {}
    if not isinstance(given, Mapping) or not given or not all(map(_is_index, given)):
        raise UserError(
            f"config.json: id2label: expected names of classes by number, got {given!r:.80}."
        )
    names = {
        int(key): name for key, name in given.items()
    }  # "0" and "00" are one, as in transformers
    return len(names), names


def _is_index(key: Any) -> bool:
    text = str(key)
    return text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS


def _is_in_range(key: str, value: Any) -> bool:
    """Return whether sizes are above 0 and fractions up to 1."""
    numbers = value if isinstance(value, list | tuple) else [value]
    return not (key in _POSITIVE and 0 in numbers) and not (key in _UP_TO_1 and value > 1)


def _exceeded(key: str, value: Any) -> int:
    """Return the bound of a key that a value exceeds; 0 where it does not."""
    most = _MAX_LAYERS if key in _LAYERS else _MAX_SIZE
    most = {"train_num_points": _MAX_POINTS, "common_stride": MAX_STRIDE}.get(key, most)
    numbers = value if isinstance(value, list | tuple) else [value]
    sizes = [n for n in numbers if type(n) is int or key == "mlp_ratio"]
    return most if key not in _FACTORS and any(n > most for n in sizes) else 0


def _is_like(value: Any, default: Any) -> bool:
    """Return whether a value has the form of a default; numbers are 0 or more."""
    if isinstance(default, list):
        listed = isinstance(value, list | tuple) and len(value) == len(default)
        return listed and all(map(_is_like, value, default))
    if isinstance(default, bool | str):
        return isinstance(value, type(default))
    kinds = (int, float) if isinstance(default, float) else (int,)
    return isinstance(value, kinds) and not isinstance(value, bool) and 0 <= value < math.inf
