"""Loading and saving of checkpoints, with a report on what fitted the model."""

import copy
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from torch import nn

from ..classes import Classes
from ..formats.atomic import atomic_path
from .average_entry import for_use
from .bridges.folders import is_folder, read_as_checkpoint
from .class_entry import compare_classes
from .loading import DEFAULT_MIN_MATCH, LoadReport, load_into
from .published import resolve_weights
from .storage.weights_io import read_checkpoint, save_torch

logger = logging.getLogger(__name__)


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
        """Return the content of a checkpoint, as `load` finds it, with the weights as "model".

        Args:
            path: as for `load`; or a folder of Hugging Face's, see `read_as_checkpoint`.
        """
        path = resolve_weights(os.fspath(path))
        return read_as_checkpoint(path) if is_folder(path) else read_checkpoint(path)

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


def read_for_use(cfg: CfgNode) -> dict[str, Any]:
    """Read MODEL.WEIGHTS, with the average as the weights where the config uses it so.

    Raises:
        FileNotFoundError, UserError: as `Checkpointer.read`.
    """
    return for_use(cfg, Checkpointer.read(cfg.MODEL.WEIGHTS), cfg.MODEL.WEIGHTS)


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
