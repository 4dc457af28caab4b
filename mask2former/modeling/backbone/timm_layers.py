"""Which layer of a timm model a parameter belongs to: for freezing and for learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["layer_numbers"]

_WRAPPERS = ("model.", "body.")  # of timm's classes that extract features


def layer_numbers(
    timm: ModuleType, model: nn.Module, whole: nn.Module, *, stages: bool
) -> dict[str, int]:
    """Return the number of every parameter's layer, 0 for the stem, rising with the depth.

    Args:
        timm: the library.
        model: a model that extracts features; its names may differ from those of `whole` by
            underscores in place of dots and by a prefix.
        whole: the model with its classification head, which knows its layers.
        stages: number the stages instead of their blocks; they are the same in a plain ViT.

    Raises:
        ValueError: timm does not know the layers of this model.
    """
    try:
        matcher = whole.group_matcher(coarse=stages)
        numbers = timm.models.group_parameters(whole, matcher, reverse=True)
    except (AttributeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"timm does not know the layers of {type(whole).__name__}: MODEL.TIMM.LAYER_DECAY must "
            "be 1 and MODEL.TIMM.FREEZE_AT 0 (train everything) or -1 (freeze everything)."
        ) from error
    by_words = {_words(name): number for name, number in numbers.items()}
    own = {}
    for name, _ in model.named_parameters():
        names = [name, *(name.removeprefix(prefix) for prefix in _WRAPPERS)]
        found = [by_words[_words(n)] for n in names if _words(n) in by_words]
        own[name] = found[0] if found else -1
    last = max(own.values())  # norms that features pass and a classifier has not
    return {name: last if number < 0 else number for name, number in own.items()}


def _words(name: str) -> str:
    return name.replace("_", ".")
