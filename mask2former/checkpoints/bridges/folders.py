"""Folders of Hugging Face's models: which families there are, and what is in them."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from torch import nn

from ...classes import Classes
from ...errors import UserError
from ...formats.json_files import read_json
from ..storage.weights_io import load_weights
from . import eomt, huggingface
from .eomt_config import from_eomt_config, kind_of, to_eomt_config
from .huggingface_config import from_huggingface_config, to_huggingface_config
from .huggingface_defaults import complete

Weights = dict[str, torch.Tensor]


class Family(NamedTuple):
    """How the models of one kind are translated.

    Attributes:
        model: the name of the class in transformers.
        read_config: from the contents of config.json and preprocessor_config.json to a config.
        read_weights: from weights of the file, and config.json, to ours.
    """

    model: str
    read_config: Callable[[dict[str, Any], dict[str, Any]], CfgNode]
    read_weights: Callable[[Mapping[str, torch.Tensor], Mapping[str, Any]], Weights]


def _eomt_weights(weights: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> Weights:
    kind = config["model_type"]
    return eomt.from_huggingface(weights, kind, complete(config, kind)["num_blocks"])


FAMILIES = {
    "mask2former": Family(
        "Mask2FormerForUniversalSegmentation",
        from_huggingface_config,
        lambda weights, config: huggingface.from_huggingface(weights),
    ),
    "eomt": Family("EomtForUniversalSegmentation", from_eomt_config, _eomt_weights),
    "eomt_dinov3": Family("EomtDinov3ForUniversalSegmentation", from_eomt_config, _eomt_weights),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """Return the family of a config.json.

    Raises:
        UserError: it is of none that we have.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f"config.json: expected model_type {' or '.join(FAMILIES)}, got {kind!r:.80}."
        )
    return FAMILIES[kind]


def translate_model(
    cfg: CfgNode, model: nn.Module, class_names: Sequence[str], thing_ids: Sequence[int]
) -> tuple[Weights, dict[str, Any], dict[str, Any]]:
    """Return the weights, config.json and preprocessor_config.json of a model of ours.

    Args:
        cfg: its config.
        class_names, thing_ids: as for `to_huggingface_config`.

    Raises:
        UserError: Hugging Face's models cannot compute what it does.
    """
    if cfg.MODEL.SEM_SEG_HEAD.NAME == "EoMTHead":
        weights = eomt.to_huggingface(model.state_dict(), kind_of(model))
        return weights, *to_eomt_config(cfg, class_names, thing_ids, model)
    config, preprocessor = to_huggingface_config(cfg, class_names, thing_ids)
    return huggingface.to_huggingface(model.state_dict()), config, preprocessor


def is_folder(path: str | os.PathLike) -> bool:
    """Tell whether a path is a folder with a config.json."""
    return (Path(path) / "config.json").is_file()


def read_as_checkpoint(folder: str | os.PathLike) -> dict[str, Any]:
    """Return the content of a folder as that of a checkpoint of ours: "model" with the weights, and
    "classes" where each has a name.

    Raises:
        FileNotFoundError, UserError: as `read_folder`, or it is of another family.
    """
    weights, config, preprocessor = read_folder(folder)
    family = family_of(config)
    classes = Classes.from_config(family.read_config(config, preprocessor))
    content: dict[str, Any] = {"model": family.read_weights(weights, config)}
    return content | ({} if classes is None else {"classes": classes.to_plain()})


def read_folder(
    folder: str | os.PathLike,
) -> tuple[Weights, dict[str, Any], dict[str, Any]]:
    """Read a folder of Hugging Face's.

    Args:
        folder: with config.json and model.safetensors (or its parts and their index), or
            pytorch_model.bin; preprocessor_config.json may be missing.

    Returns:
        weights by name, content of config.json, content of preprocessor_config.json ({} without).

    Raises:
        FileNotFoundError: there is no such folder, or it lacks a file.
        UserError: a file is damaged.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: expected a folder with config.json and model.safetensors, as "
            "save_pretrained writes it; a model of the hub is to be downloaded first."
        )
    preprocessor = folder / "preprocessor_config.json"
    given = read_object(preprocessor) if preprocessor.is_file() else {}
    return _read_weights(folder), read_object(folder / "config.json"), given


def _read_weights(folder: Path) -> Weights:
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return load_weights(folder / name)[0]
        if index.is_file():
            parts = _parts(index)
            return {k: v for part in parts for k, v in load_weights(folder / part)[0].items()}
    raise FileNotFoundError(f"{folder} has neither model.safetensors nor pytorch_model.bin.")


def _parts(index: Path) -> list[str]:
    """Return the names of the files that an index of weights lists, all of them in its folder."""
    named = read_object(index).get("weight_map")
    values = list(named.values()) if isinstance(named, dict) else [None]
    found = [part for part in values if isinstance(part, str)]
    if len(found) < len(values):
        raise UserError(f"{index}: expected weight_map with a file for each name of a weight.")
    if any(os.path.basename(part) != part or part in ("", ".", "..") for part in found):
        raise UserError(
            f"{index} names files outside of its folder; put them beside it, and name them alone."
        )
    return sorted(set(found))


def read_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that holds an object; UserError where it holds another."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, got a {type(content).__name__}.")
    return content
