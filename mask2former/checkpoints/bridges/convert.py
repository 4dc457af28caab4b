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

from ...classes import Classes, list_some
from ...config import get_config
from ...config.loading import changed
from ...errors import UserError
from ...formats.atomic import atomic_path
from ...formats.json_files import write_json
from ..average_entry import for_use
from ..loading import CheckpointMismatchError, load_into
from ..storage.weights_io import (
    load_weights,
    read_checkpoint,
    save_safetensors,
    save_weights,
)
from .backbones import from_official, from_torchvision
from .folders import family_of, read_folder, translate_model

BACKBONES: dict[str, Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]] = {
    "torchvision": from_torchvision,
    "timm": from_torchvision,
    "swin": from_official,
}
_ADVICE = "Use the config that belongs to the weights."
# How the names of weights end that predictions do not depend on.
_TRAINING_ONLY = ("criterion.empty_weight", "attn_mask_probs", "pilot.weight", "batches_tracked")


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
        FileNotFoundError, UserError: as `read_folder`, or of another family.
        CheckpointMismatchError: ``cfg`` is of another model, or weights are missing.
    """
    weights, config, preprocessor = read_folder(folder)
    family, derived = family_of(config), cfg is None
    cfg = family.read_config(config, preprocessor) if derived else cfg
    model = build_on_cpu(cfg)
    ours = family.read_weights(weights, config)
    other = "config.json describes another model than the weights beside it are of."
    _load_all(model, ours, str(folder), advice=other if derived else _ADVICE)
    classes = Classes.from_config(cfg)
    save_weights(model.state_dict(), target, author="huggingface", classes=classes)
    if derived:
        with atomic_path(Path(target).with_suffix(".yaml")) as temporary:
            temporary.write_text(yaml.safe_dump(_changed_keys(cfg, get_config())))
    return model, cfg


def ours_to_huggingface(
    source: str, folder: str | os.PathLike, cfg: CfgNode
) -> tuple[nn.Module, CfgNode]:
    """Write a folder that transformers reads, as Mask2FormerForUniversalSegmentation or, of a model
    with an `EoMTHead`, as EomtForUniversalSegmentation or EomtDinov3ForUniversalSegmentation.

    Args:
        source: a checkpoint, as for `load_weights`; TEST.EMA says whether its moving average is
            taken.
        folder: is made where it is missing.
        cfg: the config of the checkpoint.

    Returns:
        our model with the weights, in eval mode on the CPU, and its config.

    Raises:
        FileNotFoundError, UserError: as `load_weights` and `translate_model`.
        CheckpointMismatchError: ``cfg`` is of another model, or weights are missing.
    """
    content = for_use(cfg, read_checkpoint(source), str(source))
    model = build_on_cpu(cfg)
    _load_all(model, content["model"], str(source), advice=_ADVICE)
    classes = classes_of(cfg, content)
    names, things = (classes.names, classes.thing_ids) if classes else ((), ())
    translated, config, preprocessor = translate_model(cfg, model, names, things)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_safetensors(translated, folder / "model.safetensors")
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
    """Build the model of a config without its initial weights, in eval mode on the CPU.

    Raises:
        UserError: it is larger than the memory; else as the model's parts.
    """
    try:
        return build_model(changed(cfg, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "")).eval()
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):
            raise
        raise UserError(
            f"expected a model that fits into memory, got sizes in the config that do not ({error})"
        ) from error


def _load_all(
    model: nn.Module, weights: Mapping[str, torch.Tensor], source: str, *, advice: str
) -> None:
    """Load weights, all of which must fit, and all that predictions depend on must be there.

    Args:
        source, advice: as for `load_into`.

    Raises:
        CheckpointMismatchError: some do not fit, or are missing.
    """
    report = load_into(model, weights, min_match=1.0, source=source, advice=advice)
    missing = [name for name in report.missing if not name.endswith(_TRAINING_ONLY)]
    if missing:
        raise CheckpointMismatchError(
            f"{source} lacks {list_some(missing)} of the model's weights, which would stay random. "
            "Convert a complete checkpoint, with the config that belongs to it."
        )


def classes_of(cfg: CfgNode, checkpoint: Mapping[str, Any] | None = None) -> Classes | None:
    """Return the classes by checkpoint, config or training set; None if they are not known."""
    number = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    for classes in (Classes.from_checkpoint(checkpoint or {}), Classes.from_config(cfg)):
        if classes is not None and len(classes.names) == number:
            return classes
    for dataset in cfg.DATASETS.TRAIN:
        metadata = MetadataCatalog.get(dataset)
        for names in (metadata.get("stuff_classes"), metadata.get("thing_classes")):
            if names and len(names) == number:
                return Classes.from_metadata(metadata, names)
    return None


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
