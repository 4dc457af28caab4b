"""What a config with data sets of one's own leaves to the data: the number of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode

__all__ = ["CLASSES_FROM_DATA", "drop_inherited_num_classes"]

CLASSES_FROM_DATA = -1  # as NUM_CLASSES; mask2former.data.register_custom puts the number there

_KEYS = ("DATASETS.CUSTOM", "MODEL.SEM_SEG_HEAD.NUM_CLASSES")


def drop_inherited_num_classes(cfg: CfgNode, keys: Mapping[str, Any] | Sequence[Any]) -> None:
    """Has NUM_CLASSES taken from the data where it was set for other data sets.

    That is so where a file, or the command line, names data sets of one's own but no number: the
    number in the files that it builds on is that of their data sets.

    Args:
        cfg: in which ``keys`` are set already.
        keys: what one file says, as nested mappings, or the words of a command line.
    """
    custom, number = (_look_up(keys, key.split(".")) for key in _KEYS)
    if custom is not None and number is None and cfg.DATASETS.CUSTOM:
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = CLASSES_FROM_DATA


def _look_up(keys: Any, path: Sequence[str]) -> Any:
    if isinstance(keys, Sequence):
        return dict(zip(keys[::2], keys[1::2])).get(".".join(path))
    for name in path:
        keys = keys.get(name) if isinstance(keys, Mapping) else None
    return keys
