"""Loading of weights into a model by name, with a report on what fitted."""

import dataclasses
import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping

import torch
from torch import nn

from ..errors import UserError
from .renames import CLASSIFIER, DERIVED, rename_to_fit

logger = logging.getLogger(__name__)

DEFAULT_MIN_MATCH = 0.75
_ADVICE = (
    "Use the config that belongs to the checkpoint, or set MODEL.WEIGHTS_MIN_MATCH to a lower "
    "fraction to load what fits."
)


class CheckpointMismatchError(UserError):
    """Too few of a checkpoint's weights fit the model."""


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What became of the weights of a checkpoint.

    Attributes:
        loaded: names in the model that got their value from the checkpoint.
        renamed: name in the checkpoint -> name in the model, for those of `loaded` that differ.
        notes: a line on each kind of renaming.
        skipped: (name, shape in the checkpoint, shape in the model) where the shapes differ.
        missing: names in the model that the checkpoint lacks.
        unexpected: names in the checkpoint that the model lacks.
        ignored: the same for names that do not matter: an ImageNet classifier, derived buffers.
    """

    loaded: tuple[str, ...]
    renamed: dict[str, str]
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def fraction(self) -> float:
        """Fraction of the checkpoint's weights that fitted, from 0 to 1, without `ignored`."""
        return len(self.loaded) / max(self._weights_in_file, 1)

    @property
    def _weights_in_file(self) -> int:
        return len(self.loaded) + len(self.skipped) + len(self.unexpected)

    def __str__(self) -> str:
        in_model = len(self.loaded) + len(self.skipped) + len(self.missing)
        lines = [f"loaded {len(self.loaded)} of the model's {in_model} weights"]
        lines[0] += f" ({self._parts()})"
        lines += [f"renamed {note}" for note in self.notes]
        lines += [f"skipped {name}: {a} in the file, {b} here" for name, a, b in self.skipped]
        for label in ("missing", "unexpected", "ignored"):
            names = getattr(self, label)
            if names:
                lines.append(f"{label} {len(names)}: {_shortened(names)}")
        return "\n  ".join(lines)

    def _parts(self) -> str:
        """Return how much of each part of the model was loaded."""
        loaded = Counter(map(_part, self.loaded))
        total = Counter(map(_part, [*self.loaded, *(s[0] for s in self.skipped), *self.missing]))
        return ", ".join(f"{part} {loaded[part]} of {total[part]}" for part in total)


def load_into(
    model: nn.Module,
    weights: Mapping[str, torch.Tensor],
    *,
    min_match: float = DEFAULT_MIN_MATCH,
    source: str = "the checkpoint",
    advice: str = _ADVICE,
) -> LoadReport:
    """Copy what fits of ``weights`` into ``model``, renamed by content where necessary.

    Weights that hold NaN or infinity are named in a warning.

    Args:
        model: the model.
        weights: name -> tensor; may have a ``_metadata`` attribute, as torch's state_dicts do.
        min_match: minimal fraction of the weights, 0 to 1, that must fit by name and shape.
        source: what to call the weights in errors.
        advice: a sentence that tells in errors what to do.

    Raises:
        CheckpointMismatchError: less than ``min_match`` fits; the model is unchanged then.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    names, notes = rename_to_fit(shapes, own)
    report = _compare(shapes, own, names, notes)
    if report.fraction < min_match or not report.loaded:
        raise CheckpointMismatchError(_mismatch(report, source, min_match, weights, advice))
    loaded = set(report.loaded)
    fitting = OrderedDict((names[old], weights[old]) for old in weights if names[old] in loaded)
    if hasattr(weights, "_metadata"):
        # detectron2's norms update old versions by it.
        vars(fitting)["_metadata"] = weights._metadata
    model.load_state_dict(fitting, strict=False)
    if wrong := tuple(name for name, tensor in fitting.items() if not _is_finite(tensor)):
        logger.warning(
            "%s: %d of the weights hold NaN or infinity, and so will what the model predicts: %s",
            source,
            len(wrong),
            _shortened(wrong),
        )
    return report


def _is_finite(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has neither NaN nor infinity, as far as its type can have them."""
    if not tensor.is_floating_point() or tensor.element_size() < 2:
        return True
    return bool(torch.isfinite(tensor).all())


def _compare(
    shapes: Mapping[str, tuple], own: Mapping[str, tuple], names: dict[str, str], notes: list[str]
) -> LoadReport:
    loaded, skipped, unexpected, ignored = [], [], [], []
    for old, shape in shapes.items():
        new = names[old]
        if own.get(new) == shape:
            loaded.append(new)
        elif DERIVED.search(old) or (new not in own and CLASSIFIER.match(old)):
            ignored.append(old)
        elif new in own:
            skipped.append((new, shape, own[new]))
        else:
            unexpected.append(old)
    seen = {*loaded, *(name for name, *_ in skipped)}
    missing = [name for name in own if name not in seen and not DERIVED.search(name)]
    renamed = {old: new for old, new in names.items() if old != new and new in seen}
    return LoadReport(
        loaded=tuple(loaded),
        renamed=renamed,
        notes=tuple(notes),
        skipped=tuple(skipped),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        ignored=tuple(ignored),
    )


def _mismatch(
    report: LoadReport,
    source: str,
    min_match: float,
    weights: Mapping[str, torch.Tensor],
    advice: str,
) -> str:
    lines = [
        f"{source} fits this model to {report.fraction:.0%} only ({len(report.loaded)} of "
        f"{report._weights_in_file} weights; at least {min_match:.0%} is expected).",
        str(report).replace("loaded", "would load", 1),
    ]
    if any(name.startswith("model.pixel_level_module.") for name in weights):
        lines.append("It has Hugging Face's names: convert it with tools/convert_checkpoint.py.")
    else:
        lines.append(advice)
    return "\n".join(lines)


def _part(name: str) -> str:
    """Return the part of the model that ``name`` belongs to, for instance "backbone"."""
    first, second, *_ = [*name.split("."), ""]
    return f"{first}.{second}" if first == "sem_seg_head" else first


def _shortened(names: tuple[str, ...], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
