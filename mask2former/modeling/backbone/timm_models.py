"""Making of timm models that give feature maps of images of any size."""

import difflib
import inspect
import math
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import timm
import torch
from timm.models._features import FeatureGetterNet
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ...errors import UserError
from .timm_weights import load_weight_file, names_in

_STRIDES = (4, 8, 16, 32)
# With these, models of one image size take others: their position tables are resized, or their
# windows do not depend on the size.
_ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}


class FeatureModel(NamedTuple):
    """A timm model and what must be known to use it.

    Attributes:
        model: maps images to a list of features.
        whole: the model with all its layers, perhaps without memory: timm knows their order.
        channels: of the features, by stride.
        plain: whether it gives one block of a plain ViT, of which all have one stride.
        divisor: images must be padded to multiples of this.
    """

    model: nn.Module
    whole: nn.Module
    channels: dict[int, int]
    plain: bool
    divisor: int


def make_model(
    name: str, out_indices: Sequence[int], pretrained: str, in_channels: int, drop_path: float
) -> FeatureModel:
    """Make the model `name`; the arguments are those of `TimmBackbone`.

    Raises:
        RuntimeError: a download failed.
        UserError: there is no such model, it lacks these features, gives no feature maps, takes
            images of one size only, or does not take an option; or the weights are another model's.
    """
    whole = _sketch(name, in_chans=in_channels)
    indices, plain = _choose_features(name, whole, out_indices)
    options = {"in_chans": in_channels, **_any_size_options(whole, plain)}
    whole = _sketch(name, **options)
    partitions = [max(m.partition_size) for m in whole.modules() if hasattr(m, "partition_size")]
    strides = [level["reduction"] for level in whole.feature_info]
    divisor = max(_STRIDES if plain else strides) * max(partitions, default=1)
    channels = _channels(name, whole, indices, plain, (1, in_channels, divisor, 2 * divisor))
    options |= {"drop_path_rate": drop_path} if drop_path else {}
    if plain:  # a block's patches after the model's last norm
        model = FeatureGetterNet(_create(name, pretrained, options), indices, norm=True)
    else:
        options |= {"features_only": True, "out_indices": indices}
        model = _create(name, pretrained, options)
    if pretrained not in ("", "timm"):
        module = sys.modules[timm.model_entrypoint(name).__module__]
        rename = getattr(module, "checkpoint_filter_fn", None)
        load_weight_file(pretrained, model, whole, rename)
    by_stride = dict(zip([strides[i] for i in indices], channels))
    return FeatureModel(model, whole, by_stride, plain, divisor)


def make_vit(
    name: str,
    pretrained: str,
    *,
    in_channels: int,
    image_size: tuple[int, int],
    drop_path: float,
    changes: dict[str, Any],
) -> nn.Module:
    """Make the plain ViT `name` whole, without a classifier, for images of any size.

    Args:
        image_size: sides (H, W) of the images that its position table is for.
        changes: of timm's arguments `patch_size`, `embed_dim`, `depth`, `num_heads`, `mlp_ratio`
            and `reg_tokens`, and `norm_eps`.

    The others are those of `TimmBackbone`.

    Raises:
        UserError: there is no such model, it is no plain ViT, or it cannot be changed so.
    """
    facts = _vit_facts(name)
    options = {key: value for key, value in changes.items() if key != "norm_eps"}
    if facts.kind is Eva and "reg_tokens" in options:
        options["num_reg_tokens"] = options.pop("reg_tokens")
    options.setdefault("patch_size", 2 ** round(math.log2(facts.patch)))
    _check_vit(facts, image_size, options)
    options |= {"img_size": image_size, "dynamic_img_size": True, "in_chans": in_channels}
    options |= {"num_classes": 0, "global_pool": "token", "drop_path_rate": drop_path}
    if facts.kind is VisionTransformer and not pretrained:
        # Xavier's values for each of query, key and value; timm's of 0.02 are for wide models.
        options["weight_init"] = "moco"
    model = _create(name, pretrained, options)
    if pretrained not in ("", "timm"):
        module = sys.modules[timm.model_entrypoint(name).__module__]
        rename = getattr(module, "checkpoint_filter_fn", None)
        load_weight_file(pretrained, model, _sketch(name, **options), rename)
    for norm in model.modules():
        if isinstance(norm, nn.LayerNorm) and "norm_eps" in changes:
            norm.eps = changes["norm_eps"]
    return model


class _ViTFacts(NamedTuple):
    """What must be known of a plain ViT before it is changed: its class and sizes."""

    kind: type
    patch: int
    width: int
    heads: int


@lru_cache(maxsize=8)
def _vit_facts(name: str) -> _ViTFacts:
    whole = _sketch(name)
    if not isinstance(whole, VisionTransformer | Eva) or getattr(whole, "rope_mixed", False):
        raise UserError(
            "MODEL.TIMM.NAME: EoMT needs a plain ViT, such as vit_small_patch14_reg4_dinov2 or "
            f"vit_small_patch16_dinov3; {name} is a {type(whole).__name__}."
        )
    kind = Eva if isinstance(whole, Eva) else VisionTransformer
    heads = whole.blocks[0].attn.num_heads
    return _ViTFacts(kind, whole.patch_embed.patch_size[0], whole.embed_dim, heads)


def _check_vit(facts: _ViTFacts, image_size: tuple[int, int], options: dict[str, Any]) -> None:
    """Raise a UserError where sizes do not fit each other."""
    patch = options["patch_size"]
    if patch < 1 or patch.bit_count() > 1:
        raise UserError(f"MODEL.EOMT.PATCH_SIZE: expected a power of 2, got {patch}.")
    if len(image_size) != 2 or any(side < patch or side % patch for side in image_size):
        raise UserError(
            f"MODEL.EOMT.IMAGE_SIZE: expected two multiples of the patch size, {patch}, got "
            f"{list(image_size)}."
        )
    width = options.get("embed_dim", facts.width)
    heads = options.get("num_heads", facts.heads)
    if width % (4 * heads):  # rotary positions turn pairs of channels in two directions
        raise UserError(
            f"MODEL.EOMT: {width} channels do not split into {heads} heads of a multiple of 4 "
            "channels; change EMBED_DIM or NUM_HEADS."
        )


def layer_indices(model: nn.Module, whole: nn.Module, *, stages: bool) -> dict[str, int]:
    """Return the index of every parameter's layer, 0 for the stem, rising with the depth.

    Args:
        model: extracts features.
        whole: the model with all its layers.
        stages: count the stages instead of their blocks; they are the same in a plain ViT.

    Raises:
        UserError: timm does not know the layers of this model.
    """
    try:
        matcher = whole.group_matcher(coarse=stages)
        indices = timm.models.group_parameters(whole, matcher, reverse=True)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"timm does not know the layers of {type(whole).__name__}: MODEL.TIMM.LAYER_DECAY must "
            "be 1 and MODEL.TIMM.FREEZE_AT 0 (train everything) or -1 (freeze everything)."
        ) from error
    names = names_in(whole, model)
    own = {n: indices[names[n]] for n, _ in model.named_parameters() if n in names}
    # The others are norms that features pass and a classifier has not.
    last = max(own.values())
    return {name: own.get(name, last) for name, _ in model.named_parameters()}


def save_activations(name: str, model: nn.Module) -> None:
    """Let the model `name` compute activations again in the backward pass instead of keeping them.

    Raises:
        UserError: it cannot.
    """
    for module in model.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # the input of a layer must outlive it, to be used again
    inner = model if hasattr(model, "set_grad_checkpointing") else getattr(model, "model", model)
    try:
        inner.set_grad_checkpointing(True)
    except (AttributeError, AssertionError) as error:
        raise UserError(
            f"MODEL.TIMM.USE_CHECKPOINT: {name} cannot compute activations again; set it to False."
        ) from error


def _sketch(name: str, **options: Any) -> nn.Module:
    """Make a model without memory for its weights, where that works."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), 5, cutoff=0.5)
        raise UserError(
            f"MODEL.TIMM.NAME: timm {timm.__version__} has no model {name!r}. "
            + (f"The nearest names: {', '.join(near)}." if near else "See timm.list_models().")
        )
    try:
        with torch.device("meta"):
            return timm.create_model(name, **options).eval()
    except (NotImplementedError, RuntimeError):  # its constructor looks at values
        return timm.create_model(name, **options).eval()


def _choose_features(
    name: str, whole: nn.Module, out_indices: Sequence[int]
) -> tuple[list[int], bool]:
    """Return the indices of features, from 0 on, and whether the model is a plain ViT."""
    strides = [level["reduction"] for level in getattr(whole, "feature_info", None) or ()]
    if not any(strides):
        raise UserError(
            f"MODEL.TIMM.NAME: {name} gives no feature maps; choose another model, for instance of "
            "timm.list_models('convnext*')."
        )
    count, plain = len(strides), len(set(strides)) == 1
    if not all(-count <= i < count for i in out_indices):
        raise UserError(
            f"MODEL.TIMM.OUT_INDICES: {name} has {count} features, of strides {strides} for the "
            f"indices from 0 on; got {list(out_indices)}."
        )
    default = [count - 1] if plain else [i for i in range(count) if strides[i] in _STRIDES]
    indices = [i % count for i in out_indices] or default
    chosen = [strides[i] for i in indices]
    are_powers = plain or all(stride.bit_count() == 1 for stride in chosen)
    if not chosen or not are_powers or len(set(chosen)) < len(chosen):
        raise UserError(
            f"MODEL.TIMM.OUT_INDICES: the features of {name} must have different strides, all "
            f"powers of 2, but they are {chosen or strides}; choose other indices, one only of a "
            "plain ViT, or a model of stages."
        )
    return indices, plain


def _any_size_options(whole: nn.Module, plain: bool) -> dict[str, Any]:
    """Return the options with which a model takes images of any size."""
    known = {key for c in type(whole).__mro__ for key in inspect.signature(c.__init__).parameters}
    options: dict[str, Any] = {key: value for key, value in _ANY_SIZE.items() if key in known}
    if plain:
        options["num_classes"] = 0
        stride = whole.feature_info[0]["reduction"]
        if stride.bit_count() > 1:
            # Patches of the nearest power of 2, as many as in training: timm resamples the weights.
            side = 2 ** round(math.log2(stride))
            options["patch_size"] = side
            options["img_size"] = whole.pretrained_cfg["input_size"][-1] // stride * side
    return options


def _channels(
    name: str, whole: nn.Module, indices: list[int], plain: bool, shape: tuple[int, ...]
) -> list[int]:
    """Return the channels of features, after a look whether the model takes images of a shape."""
    images = torch.zeros(shape, device=next(whole.parameters()).device)
    try:
        with torch.no_grad():
            if plain:  # the last norm of some models changes the channels
                features = FeatureGetterNet(whole, indices, norm=True, prune=False)(images)
                return [x.shape[1] for x in features]
            if whole.pretrained_cfg.get("fixed_input_size"):
                whole.forward_features(images)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"MODEL.TIMM.NAME: {name} takes images of one size only; choose another."
        ) from error
    return [whole.feature_info[i]["num_chs"] for i in indices]


def _create(name: str, pretrained: str, options: dict[str, Any]) -> nn.Module:
    download = pretrained == "timm"
    try:
        return timm.create_model(name, pretrained=download, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise UserError(f"MODEL.TIMM: {name} does not know an option: {error}.") from error
    except (OSError, RuntimeError) as error:
        if not download:
            raise
        raise UserError(
            f"timm could not download the weights of {name}: {error} Without a network, set "
            'MODEL.TIMM.PRETRAINED to a weight file, or to "" to start without weights.'
        ) from error
