"""Conversion of checkpoints between file formats and libraries, from file to file."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from torch import nn

from ...classes import Classes
from ...config import get_config
from ...config.loading import changed
from ...errors import UserError
from ...formats.atomic import atomic_path
from ...formats.json_files import read_json, write_json
from ..checkpointer import load_into
from ..storage.weights_io import load_weights, save_safetensors, save_weights
from .backbones import from_official, from_torchvision
from .huggingface import from_huggingface, to_huggingface
from .huggingface_config import from_huggingface_config, to_huggingface_config

BACKBONES: dict[str, Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "torchvision": from_torchvision,
    "timm": from_torchvision,
    "swin": from_official,
}


def read_folder(
    folder: str | os.PathLike,
) -> tuple[dict[str, torch.Tensor], dict[str, Any], dict[str, Any]]:
    """Read a Mask2Former folder of Hugging Face's.

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
    given = _read_object(preprocessor) if preprocessor.is_file() else {}
    return _read_weights(folder), _read_object(folder / "config.json"), given


def huggingface_to_ours(
    folder: str | os.PathLike, target: str | os.PathLike, cfg: CfgNode | None = None
) -> tuple[nn.Module, CfgNode]:
    """Write a checkpoint of ours, and where no config is given one beside it, ending in .yaml.

    Args:
        folder: as for `read_folder`.
        target: as for `save_weights`.
        cfg: the config of the model; None to derive it from config.json.

    Returns:
        our model with the weights, in eval mode on the CPU, and its config.

    Raises:
        FileNotFoundError, UserError: as `read_folder` and `from_huggingface`.
        CheckpointMismatchError: ``cfg`` is of another model.
    """
    weights, config, preprocessor = read_folder(folder)
    derived = cfg is None
    cfg = from_huggingface_config(config, preprocessor) if derived else cfg
    model = build_on_cpu(cfg)
    load_into(model, from_huggingface(weights), min_match=1.0, source=str(folder))
    classes = Classes.from_config(cfg)
    save_weights(model.state_dict(), target, author="huggingface", classes=classes)
    if derived:
        with atomic_path(Path(target).with_suffix(".yaml")) as temporary:
            temporary.write_text(yaml.safe_dump(_changed_keys(cfg, get_config())))
    return model, cfg


def ours_to_huggingface(
    source: str, folder: str | os.PathLike, cfg: CfgNode
) -> tuple[nn.Module, CfgNode]:
    """Write a folder that ``Mask2FormerForUniversalSegmentation.from_pretrained`` reads.

    Args:
        source: a checkpoint, as for `load_weights`.
        folder: is made where it is missing.
        cfg: the config of the checkpoint.

    Returns:
        our model with the weights, in eval mode on the CPU, and its config.

    Raises:
        FileNotFoundError, UserError: as `load_weights` and `to_huggingface_config`.
        CheckpointMismatchError: ``cfg`` is of another model.
    """
    weights, rest = load_weights(source)
    config, preprocessor = to_huggingface_config(cfg, class_names(cfg, rest))
    model = build_on_cpu(cfg)
    load_into(model, weights, min_match=1.0, source=str(source))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(to_huggingface(model.state_dict()), folder / "model.safetensors")
    for name, content in (("config", config), ("preprocessor_config", preprocessor)):
        write_json(folder / f"{name}.json", content, indent=2)
    return model, cfg


def backbone_to_ours(source: str, target: str | os.PathLike, kind: str) -> None:
    """Write an ImageNet backbone of another library for use as MODEL.WEIGHTS.

    Args:
        source: its checkpoint, as for `load_weights`.
        target: as for `save_weights`.
        kind: one of `BACKBONES`.

    Raises:
        FileNotFoundError, UserError: as `load_weights`, or it is another network.
    """
    weights = BACKBONES[kind](load_weights(source)[0])
    save_weights(weights, target, author=kind, partial=True)


def build_on_cpu(cfg: CfgNode) -> nn.Module:
    """Build the model of a config without its initial weights, in eval mode on the CPU."""
    return build_model(changed(cfg, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "")).eval()


def class_names(cfg: CfgNode, checkpoint: Mapping[str, Any] | None = None) -> list[str]:
    """Return the names of the classes by checkpoint, config or training set; [] if not known."""
    number = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    for classes in (Classes.from_checkpoint(checkpoint or {}), Classes.from_config(cfg)):
        if classes is not None and len(classes.names) == number:
            return list(classes.names)
    for dataset in cfg.DATASETS.TRAIN:
        metadata = MetadataCatalog.get(dataset)
        for names in (metadata.get("stuff_classes"), metadata.get("thing_classes")):
            if names and len(names) == number:
                return list(names)
    return []


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return load_weights(folder / name)[0]
        if index.is_file():
            parts = sorted(set(_read_object(index)["weight_map"].values()))
            if any(os.path.basename(part) != part for part in parts):
                raise UserError(f"{index} names files outside of its folder.")
            return {k: v for part in parts for k, v in load_weights(folder / part)[0].items()}
    raise FileNotFoundError(f"{folder} has neither model.safetensors nor pytorch_model.bin.")


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, got a {type(content).__name__}.")
    return content


def _changed_keys(cfg: CfgNode, default: CfgNode) -> dict[str, Any]:
    """Return the keys of ``cfg`` whose values are not those of ``default``, nested."""
    changed: dict[str, Any] = {}
    for key, value in cfg.items():
        if isinstance(value, CfgNode):
            inner = _changed_keys(value, default[key])
            changed |= {key: inner} if inner else {}
        elif value != default[key]:
            changed[key] = list(value) if isinstance(value, tuple) else value
    return changed
