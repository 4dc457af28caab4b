"""The folder of a failed step: batch, weights, generator states, config."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ...checkpoints.storage.weights_io import load_weights, save_safetensors
from ...config.loading import load_config
from ...errors import UserError
from ...evaluation.results import versions
from ...formats.atomic import atomic_folder
from ...formats.json_files import read_json, require_keys, require_number, write_json
from .packing import Tensors, pack, unpack

FOLDER = "failure"  # in OUTPUT_DIR
CURE = "copy the folder of the failed step again"  # where a file of it is damaged
_FORMAT = 1
_FACTS, _WEIGHTS, _TENSORS, _CONFIG = (
    "failure.json", "weights.safetensors", "tensors.safetensors", "config.yaml"
)  # fmt: skip
_KEYS = ("iteration", "process", "message", "device", "dtype", "batch", "random_state")


@dataclasses.dataclass(frozen=True)
class Failure:
    """A step whose loss was not finite.

    Attributes:
        iteration, process: where it was.
        message: which losses were not finite.
        device: type of the device that it ran on.
        dtype: of autocast; None for float32.
        batch: what the model got, in all parts of the step.
        random_state: of the generators before the step.
    """

    iteration: int
    process: int
    message: str
    device: str
    dtype: torch.dtype | None
    batch: Any
    random_state: Mapping[str, Any]


def save_failure(target: Path, failure: Failure, model: nn.Module, cfg: CfgNode) -> None:
    """Write a failed step into a folder, in place of one that is there, with the weights before it.

    Raises:
        OSError: it cannot be written.
    """
    tensors: Tensors = {}
    facts = {
        "format": _FORMAT,
        "versions": versions(),
        "iteration": failure.iteration,
        "process": failure.process,
        "message": failure.message,
        "device": failure.device,
        "dtype": failure.dtype and str(failure.dtype).removeprefix("torch."),
        "batch": pack(failure.batch, tensors),
        "random_state": pack(failure.random_state, tensors),
    }
    with atomic_folder(target) as folder:
        save_safetensors(model.state_dict(), folder / _WEIGHTS)
        save_safetensors(tensors, folder / _TENSORS)
        (folder / _CONFIG).write_text(cfg.dump())
        write_json(folder / _FACTS, facts)


def load_failure(folder: Path) -> tuple[Failure, dict[str, Tensor], CfgNode]:
    """Read what `save_failure` wrote; return it, the weights and the config.

    Raises:
        FileNotFoundError: there is no such folder, or a file of it is missing.
        UserError: it is of another version, or damaged; names the file.
    """
    path = folder / _FACTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no failed step: expected {_FACTS} in it, as training writes it into "
            f"OUTPUT_DIR/{FOLDER} where a loss is not finite"
        )
    facts = read_json(path)
    if not isinstance(facts, Mapping) or "format" not in facts:
        raise UserError(f"{path}: expected an object with format; {CURE}")
    if facts["format"] != _FORMAT:
        made_by = facts.get("versions")
        version = made_by.get("mask2former") if isinstance(made_by, Mapping) else None
        raise UserError(
            f"{path}: expected format {_FORMAT}, got {facts['format']!r:.50}; replay it with the "
            f"version of mask2former that wrote it ({version or 'not known'})"
        )
    tensors, _ = load_weights(folder / _TENSORS)
    weights, _ = load_weights(folder / _WEIGHTS)
    try:
        failure = _from_plain(facts, tensors)
    except UserError as error:
        raise UserError(f"{path}: {error}; {CURE}") from error
    return failure, weights, load_config(folder / _CONFIG)


def _from_plain(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Failure:
    require_keys(facts, _KEYS)
    require_number(facts["iteration"], "iteration")
    dtype = facts["dtype"] and getattr(torch, str(facts["dtype"]), None)
    if not isinstance(dtype, torch.dtype | None):
        raise UserError(f"expected a type of torch as dtype, got {facts['dtype']!r:.50}")
    values = {key: facts[key] for key in _KEYS} | {"dtype": dtype}
    for key in ("batch", "random_state"):
        values[key] = unpack(facts[key], tensors)
    return Failure(**values)
