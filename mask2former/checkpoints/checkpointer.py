"""Loading and saving of checkpoints, with a report on what fitted the model."""

import copy
import dataclasses
import logging
import os
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from ..classes import Classes
from ..errors import UserError
from ..formats.atomic import atomic_path
from .class_entry import compare_classes
from .published import resolve_weights
from .renames import CLASSIFIER, DERIVED, rename_to_fit
from .storage.weights_io import read_checkpoint, save_torch

logger = logging.getLogger(__name__)
DEFAULT_MIN_MATCH = 0.75


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
) -> LoadReport:
    """Copy what fits of ``weights`` into ``model``, renamed by content where necessary.

    Args:
        model: the model.
        weights: name -> tensor; may have a ``_metadata`` attribute, as torch's state_dicts do.
        min_match: minimal fraction of the weights, 0 to 1, that must fit by name and shape.
        source: what to call the weights in errors.

    Raises:
        CheckpointMismatchError: less than ``min_match`` fits; the model is unchanged then.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    names, notes = rename_to_fit(shapes, own)
    report = _compare(shapes, own, names, notes)
    if report.fraction < min_match or not report.loaded:
        raise CheckpointMismatchError(_mismatch(report, source, min_match, weights))
    loaded = set(report.loaded)
    fitting = OrderedDict((names[old], weights[old]) for old in weights if names[old] in loaded)
    if hasattr(weights, "_metadata"):
        # detectron2's norms update old versions by it.
        vars(fitting)["_metadata"] = weights._metadata
    model.load_state_dict(fitting, strict=False)
    return report


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
    report: LoadReport, source: str, min_match: float, weights: Mapping[str, torch.Tensor]
) -> str:
    lines = [
        f"{source} fits this model to {report.fraction:.0%} only ({len(report.loaded)} of "
        f"{report._weights_in_file} weights; at least {min_match:.0%} is expected).",
        str(report).replace("loaded", "would load", 1),
    ]
    if any(name.startswith("model.pixel_level_module.") for name in weights):
        lines.append("It has Hugging Face's names: convert it with tools/convert_checkpoint.py.")
    else:
        lines.append(
            "Use the config that belongs to the checkpoint, or set MODEL.WEIGHTS_MIN_MATCH to a "
            "lower fraction to load what fits."
        )
    return "\n".join(lines)


class Checkpointer(DetectionCheckpointer):
    """detectron2's checkpointer with safe reading, renaming by content, and atomic writing.

    Attributes:
        report: the `LoadReport` of the last call of `load`, or None.
        classes: those of the model, which `save` writes and `load` compares; None if not known.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        min_match: float = DEFAULT_MIN_MATCH,
        classes: Classes | None = None,
        **checkpointables: Any,
    ) -> None:
        """
        Args:
            model: to load into and to save; wrappers for distributed training are taken off.
            save_dir: folder of the checkpoints; "" saves none.
            save_to_disk: None for the main process only.
            min_match: as in `load_into`.
            classes: see the attribute.
            checkpointables: objects with state_dict and load_state_dict, saved beside the model.
        """
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.min_match = min_match
        self.classes = classes
        self.report: LoadReport | None = None

    def load(
        self,
        path: str,
        checkpointables: Iterable[str] | None = None,
        *,
        content: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Load a checkpoint: the model, and the named checkpointables where it has them.

        Args:
            path: as for `load_weights`, or a name that published configs have (see
                `mask2former.checkpoints.published.resolve_weights`); "" loads nothing.
            checkpointables: their names; None for all.
            content: what `read` has read from there; None to read it here.

        Returns:
            the rest of the checkpoint, for instance ``{"iteration": 999}``.

        Raises:
            FileNotFoundError, UserError: as `load_weights` and `load_into`; or the state of a
                training with other classes is to be restored.
        """
        if not path:
            logger.info("No checkpoint given; the model keeps its initial weights.")
            return {}
        checkpoint = dict(content) if content is not None else self._load_file(path)
        weights = checkpoint.pop("model")
        wanted = list(self.checkpointables if checkpointables is None else checkpointables)
        resumes = any(name in checkpoint for name in wanted)
        compare_classes(checkpoint, self.classes, str(path), resumes=resumes)
        self.report = load_into(self.model, weights, min_match=self.min_match, source=str(path))
        clean = not (self.report.skipped or self.report.missing or self.report.unexpected)
        logger.log(logging.INFO if clean else logging.WARNING, "%s: %s", path, self.report)
        for name in wanted:
            if name in checkpoint:
                # A copy, as the file is mapped into memory and may be overwritten later.
                state = copy.deepcopy(checkpoint.pop(name))
                self.checkpointables[name].load_state_dict(state)
                logger.info("Loaded %s from %s", name, path)
        return checkpoint

    def _load_file(self, filename: str) -> dict[str, Any]:
        return self.read(filename)

    @staticmethod
    def read(path: str | os.PathLike[str]) -> dict[str, Any]:
        """Return the content of a checkpoint, as `load` finds it, with the weights as "model"."""
        return read_checkpoint(resolve_weights(os.fspath(path)))

    def save(self, name: str, **extra: Any) -> None:
        """Write ``<name>.pth`` into the folder, atomically, and tag it as the last.

        Args:
            name: the file's name without suffix.
            extra: numbers, strings, arrays, tensors and plain containers to save beside.

        Raises:
            TypeError: something else is to be saved, which `load` would refuse.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": self.model.state_dict()}
        if self.classes is not None:
            data["classes"] = self.classes.to_plain()
        for key, value in self.checkpointables.items():
            data[key] = _plain(value.state_dict(), key)
        data.update({key: _plain(value, key) for key, value in extra.items()})
        os.makedirs(self.save_dir, exist_ok=True)
        path = os.path.join(self.save_dir, f"{name}.pth")
        save_torch(data, path)
        self.tag_last_checkpoint(os.path.basename(path))
        logger.info("Saved %s", path)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the last checkpoint into the file ``last_checkpoint``."""
        with atomic_path(os.path.join(self.save_dir, "last_checkpoint")) as temporary:
            temporary.write_text(last_filename_basename)


def _plain(value: Any, where: str) -> Any:
    """Return ``value`` with numpy's numbers as Python's; refuse what could not be read again."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        kind = type(value) if type(value) in (list, tuple, set) else tuple
        return kind(_plain(item, where) for item in value)
    if value is None or isinstance(value, bool | int | float | complex | str | torch.Tensor):
        return value
    raise TypeError(
        f"Cannot save {where}: a {type(value).__name__} is no number, string, tensor or plain "
        "container of those."
    )


def _part(name: str) -> str:
    """Return the part of the model that ``name`` belongs to, for instance "backbone"."""
    first, second, *_ = [*name.split("."), ""]
    return f"{first}.{second}" if first == "sem_seg_head" else first


def _shortened(names: tuple[str, ...], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
