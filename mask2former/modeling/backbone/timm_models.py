"""Making of timm models that give feature maps of images of any size."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from .timm_weights import read_weights

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Plan", "create_model", "import_timm", "plan_model"]

_STRIDES = (4, 8, 16, 32)
# What models of one image size take to work with others: position tables that are resized, or
# windows that do not depend on the size.
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})


def import_timm() -> ModuleType:
    """Return the library, which is optional and slow to import."""
    try:
        import timm
    except ImportError as error:
        raise ImportError("build_timm_backbone needs timm: pip install timm") from error
    return timm


class Plan(NamedTuple):
    """How a timm model is made and used.

    Attributes:
        whole: the model with its classification head, perhaps without memory.
        options: arguments with which it takes images of any size.
        indices: of the features that are used.
        strides: of these features.
        plain: whether all features have one stride, as in a plain ViT.
        divisor: images must be padded to multiples of this.
    """

    whole: nn.Module
    options: dict[str, Any]
    indices: tuple[int, ...]
    strides: tuple[int, ...]
    plain: bool
    divisor: int


def plan_model(timm: ModuleType, name: str, out_indices: Sequence[int], in_chans: int) -> Plan:
    """Find out how to make the model `name`.

    Args:
        timm: the library.
        name: of the model in timm.
        out_indices: as of `TimmBackbone`.
        in_chans: channels of the images.

    Raises:
        ValueError: there is no such model, it lacks these features, gives no feature maps, or
            takes images of one size only.
    """
    _check_name(timm, name)
    whole = _sketch(timm, name, in_chans=in_chans)
    strides = _strides(name, whole)
    plain = len(set(strides)) == 1
    indices = _choose_features(name, strides, out_indices, plain)
    options = {"in_chans": in_chans}
    if plain and strides[0].bit_count() != 1:
        options |= _power_of_two_patches(strides[0], whole)
        strides = [options["patch_size"]] * len(strides)
    divisor = max(_STRIDES if plain else strides) * _partition(whole)
    shape = (1, in_chans, divisor, 2 * divisor)
    options |= _any_size(timm, name, options, whole, shape, plain)
    return Plan(whole, options, indices, tuple(strides[i] for i in indices), plain, divisor)


def create_model(
    timm: ModuleType, name: str, plan: Plan, pretrained: str, **options: Any
) -> nn.Module:
    """Make the model of a plan.

    Args:
        timm: the library.
        name: of the model in timm.
        plan: from `plan_model`.
        pretrained: as of `TimmBackbone`.
        **options: more arguments of the model.

    Returns:
        timm's model that maps images to a list of features; for a plain one a `PlainFeatures`.

    Raises:
        RuntimeError: a download failed.
        ValueError: the model does not take an option, or the weights are another model's.
    """
    options |= plan.options
    if plan.plain:
        options["num_classes"] = 0
    else:
        options |= {"features_only": True, "out_indices": plan.indices}
    try:
        model = _create_with_weights(timm, name, plan.whole, pretrained, options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(f"MODEL.TIMM: {name} does not know an option: {error}.") from error
    return PlainFeatures(model, plan.indices[0]) if plan.plain else model


class PlainFeatures(nn.Module):
    """The patches of one block of a plain ViT as a map, after the model's last norm."""

    def __init__(self, model: nn.Module, block: int):
        super().__init__()
        model.prune_intermediate_layers([block], prune_norm=False, prune_head=True)
        self.model = model
        self.block = block
        self.pretrained_cfg = model.pretrained_cfg

    @torch.no_grad()
    def channels(self, in_chans: int, side: int) -> int:
        """Return the channels of the map, which the last norm of some models changes."""
        training = self.training
        width = self.eval()(torch.zeros(1, in_chans, side, side))[0].shape[1]
        self.train(training)
        return width

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self.model.set_grad_checkpointing(enable)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) to one map (B, C, H/patch, W/patch)."""
        return self.model.forward_intermediates(
            images, indices=[self.block], norm=True, output_fmt="NCHW", intermediates_only=True
        )


def _create_with_weights(
    timm: ModuleType, name: str, whole: nn.Module, pretrained: str, options: dict[str, Any]
) -> nn.Module:
    if not pretrained:
        return timm.create_model(name, **options)
    if pretrained == "timm":
        try:
            return timm.create_model(name, pretrained=True, **options)
        except (OSError, RuntimeError) as error:
            raise RuntimeError(
                f"timm could not download the weights of {name}: {error} Without a network, set "
                'MODEL.TIMM.PRETRAINED to a weight file, or to "" to start without weights.'
            ) from error
    overlay = {"state_dict": read_weights(timm, pretrained, name, whole)}
    with _errors_only("timm"):  # it warns of the weights of the head, for which it has no use
        model = timm.create_model(name, True, pretrained_cfg_overlay=overlay, **options)
    model.pretrained_cfg.pop("state_dict")  # a second copy of all weights
    return model


@contextmanager
def _errors_only(logger_name: str) -> Iterator[None]:
    named = logging.getLogger(logger_name)
    level = named.level
    named.setLevel(logging.ERROR)
    try:
        yield
    finally:
        named.setLevel(level)


def _check_name(timm: ModuleType, name: str) -> None:
    if timm.is_model(name):
        return
    known = timm.list_models()
    near = difflib.get_close_matches(name.partition(".")[0], known, n=5, cutoff=0.5)
    raise ValueError(
        f"MODEL.TIMM.NAME: timm {timm.__version__} has no model {name!r}. "
        + (f"The nearest names: {', '.join(near)}." if near else "See timm.list_models().")
    )


def _sketch(timm: ModuleType, name: str, **options: Any) -> nn.Module:
    """Make a model without memory for its weights, where that works."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, **options).eval()
    except (NotImplementedError, RuntimeError):  # its constructor looks at values
        return timm.create_model(name, **options).eval()


def _strides(name: str, whole: nn.Module) -> list[int]:
    info = getattr(whole, "feature_info", None) or []
    strides = [level["reduction"] for level in info if level["reduction"]]
    if not strides:
        raise ValueError(
            f"MODEL.TIMM.NAME: {name} gives no feature maps; choose another model, for instance of "
            "timm.list_models('convnext*')."
        )
    return strides


def _choose_features(
    name: str, strides: list[int], out_indices: Sequence[int], plain: bool
) -> tuple[int, ...]:
    """Return the indices of features, from 0 on, after a check."""
    count = len(strides)
    if not all(-count <= i < count for i in out_indices):
        raise ValueError(
            f"MODEL.TIMM.OUT_INDICES: {name} has {count} features, of strides {strides} for the "
            f"indices from 0 on; got {list(out_indices)}."
        )
    indices = tuple(i % count for i in out_indices)
    if plain:
        if len(indices) > 1:
            raise ValueError(
                f"MODEL.TIMM.OUT_INDICES: the {count} features of {name} all have stride "
                f"{strides[0]}, and the pyramid is made of one of them: give one index, or [] for "
                f"the last; got {list(out_indices)}."
            )
        return indices or (count - 1,)
    indices = indices or tuple(i for i, stride in enumerate(strides) if stride in _STRIDES)
    chosen = [strides[i] for i in indices]
    if len(set(chosen)) < len(chosen) or any(s.bit_count() != 1 for s in chosen) or not chosen:
        raise ValueError(
            f"MODEL.TIMM.OUT_INDICES: the features of {name} must have different strides, all "
            f"powers of 2, but they are {chosen or strides}; choose other indices or a model of "
            "stages."
        )
    return indices


def _power_of_two_patches(patch: int, whole: nn.Module) -> dict[str, Any]:
    """Return options for patches of the nearest power of 2, with as many of them as in training.

    timm resamples the weights of the patch embedding when it loads them.
    """
    side = 2 ** round(math.log2(patch))
    return {"patch_size": side, "img_size": whole.pretrained_cfg["input_size"][-1] // patch * side}


def _partition(whole: nn.Module) -> int:
    """Return the side of windows or grids, in pixels of a map, that maps must be whole ones of."""
    sides = [m.partition_size for m in whole.modules() if hasattr(m, "partition_size")]
    return max((max(side) for side in sides), default=1)


def _any_size(
    timm: ModuleType,
    name: str,
    options: dict[str, Any],
    whole: nn.Module,
    shape: tuple[int, ...],
    plain: bool,
) -> dict[str, Any]:
    """Return options with which the model takes images of other sizes, as it does of a shape."""
    if not whole.pretrained_cfg.get("fixed_input_size") or _takes(whole, shape):
        return {}
    for extra in _ANY_SIZE if plain else reversed(_ANY_SIZE):  # the likelier one first
        try:
            model = _sketch(timm, name, **options, **extra)
        except TypeError:  # an option that it has not
            continue
        if _takes(model, shape):
            return extra
    raise ValueError(f"MODEL.TIMM.NAME: {name} takes images of one size only; choose another.")


def _takes(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Tell whether the model can be run on images of a shape."""
    images = torch.zeros(shape, device=next(model.parameters()).device)
    try:
        with torch.no_grad():
            model.forward_features(images)
    except (AssertionError, ValueError, RuntimeError):
        return False
    return True
