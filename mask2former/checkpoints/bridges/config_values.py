"""What the config.json files of Hugging Face's models share: keys, classes, normalisation."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode

from ...classes import Classes
from ...errors import UserError
from ...formats.class_names import class_texts
from . import huggingface_defaults as defaults

logger = logging.getLogger(__name__)

_BILINEAR = 2  # Pillow's number
_MAX_NUMBER = 1e9  # of means, deviations and factors; integers may be beyond every float
# Of queries and losses: config.json -> keys under MODEL
CRITERION_KEYS = {
    "num_queries": "MASK_FORMER.NUM_OBJECT_QUERIES",
    "no_object_weight": "MASK_FORMER.NO_OBJECT_WEIGHT",
    "class_weight": "MASK_FORMER.CLASS_WEIGHT",
    "mask_weight": "MASK_FORMER.MASK_WEIGHT",
    "dice_weight": "MASK_FORMER.DICE_WEIGHT",
    "train_num_points": "MASK_FORMER.TRAIN_NUM_POINTS",
    "oversample_ratio": "MASK_FORMER.OVERSAMPLE_RATIO",
    "importance_sample_ratio": "MASK_FORMER.IMPORTANCE_SAMPLE_RATIO",
}


def copy_keys(source: Mapping[str, Any], model: CfgNode, keys: Mapping[str, str]) -> None:
    """Set keys under MODEL, "NODE.KEY", from the entries that ``keys`` names."""
    for theirs, ours in keys.items():
        set_key(model, ours, source[theirs])


def get_key(model: CfgNode, key: str) -> Any:
    """Return the value of a key under MODEL, "NODE.KEY"."""
    node, name = key.split(".")
    return model[node][name]


def set_key(model: CfgNode, key: str, value: Any) -> None:
    """Set a key under MODEL, "NODE.KEY"."""
    node, name = key.split(".")
    model[node][name] = list(value) if isinstance(value, list | tuple) else value


def label_entries(
    number: int, class_names: Sequence[str], thing_ids: Sequence[int]
) -> dict[str, Any]:
    """Return the entries of config.json about classes.

    Args:
        number: K.
        class_names: of the K classes; "LABEL_0" and so on where they are not given.
        thing_ids: positions of those that are things.

    Raises:
        UserError: another number of names.
    """
    names = list(class_names) or [f"LABEL_{i}" for i in range(number)]
    if len(names) != number:
        raise UserError(
            f"class_names: expected {number} names, as MODEL.SEM_SEG_HEAD.NUM_CLASSES says, got "
            f"{len(names)}."
        )
    things = {"thing_ids": list(thing_ids)} if class_names and thing_ids else {}
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        **things,
    }


def set_classes(cfg: CfgNode, config: Mapping[str, Any]) -> None:
    """Set the number of classes, and which they are where each has a name of its own; log what of
    id2label and thing_ids cannot be used."""
    number, labels = defaults.labels(config)
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = number
    things = config.get("thing_ids")
    if things is None and all(name == f"LABEL_{i}" for i, name in labels.items()):
        return  # which stand for no names
    try:
        given = [labels.get(i, "") for i in range(len(labels))]
        names = class_texts(given, "config.json: id2label")
    except UserError as error:
        logger.warning("%s. Classes have numbers here, as long as MODEL.CLASSES is empty", error)
        return
    try:
        classes = Classes.from_plain({"names": names, "thing_ids": things}, "config.json")
    except UserError as error:
        logger.warning("%s. No class is a thing until MODEL.CLASSES.THING_IDS says so", error)
        classes = Classes(tuple(names))
    classes.write(cfg)


def has_stuff_and_things(cfg: CfgNode) -> bool:
    """Tell whether a config says which classes are things, and some are not."""
    return 0 < len(cfg.MODEL.CLASSES.THING_IDS) < len(cfg.MODEL.CLASSES.NAMES)


def normalization_entries(cfg: CfgNode) -> dict[str, Any]:
    """Return the entries of preprocessor_config.json about pixels.

    Raises:
        UserError: the model reads BGR.
    """
    if cfg.INPUT.FORMAT != "RGB":
        raise UserError(
            f"INPUT.FORMAT: Hugging Face's models read RGB, the config has {cfg.INPUT.FORMAT}."
        )
    return {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in cfg.MODEL.PIXEL_MEAN],
        "image_std": [value / 255 for value in cfg.MODEL.PIXEL_STD],
    }


def set_normalization(cfg: CfgNode, preprocessor: Mapping[str, Any]) -> None:
    """Set the format, mean and standard deviation of images.

    Raises:
        UserError: a value of another type, or one by which pixels cannot be divided.
    """
    cfg.INPUT.FORMAT = "RGB"
    given = defaults.complete(preprocessor, "image processor")
    # Theirs multiply pixels by a factor first, ours do not.
    factor = given["rescale_factor"] if given["do_rescale"] else 1.0
    mean, std = given["image_mean"], given["image_std"]
    if not given["do_normalize"]:
        mean, std = [0.0] * 3, [1.0] * 3
    for name, values in (("rescale_factor", [factor]), ("image_std", std)):
        if 0 in values:
            raise UserError(f"image processor: {name}: expected more than 0, got {values}.")
    for name, values in (("rescale_factor", [factor]), ("image_std", std), ("image_mean", mean)):
        if any(not abs(value) <= _MAX_NUMBER for value in values):
            text = str([str(value)[:20] for value in values])
            raise UserError(
                f"image processor: {name}: expected numbers up to {_MAX_NUMBER:g}, got {text}."
            )
    cfg.MODEL.PIXEL_MEAN = [round(value / factor, 6) for value in mean]
    cfg.MODEL.PIXEL_STD = [round(value / factor, 6) for value in std]
    if given["resample"] != _BILINEAR:
        logger.warning(
            "preprocessor_config.json: resample %s: images are resized bilinearly here",
            given["resample"],
        )
