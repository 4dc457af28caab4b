"""Reading of config files: defaults, then a file with its bases, then a command line."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode, get_cfg

from .keys import CLASSES_FROM_DATA, add_maskformer2_config, add_maskformer2_video_config
from .merge import merge_keys, merge_opts
from .yaml_reader import read_chain


def load_config(path: str | os.PathLike[str], opts: Sequence[Any] = ()) -> CfgNode:
    """Read a config file without running anything that it may contain.

    Args:
        path: yaml file, which may build on others through ``_BASE_``.
        opts: ``KEY VALUE KEY VALUE ...``, set after the file.

    Returns:
        all keys, those of detectron2 and DeepLab included; not frozen.

    Raises:
        FileNotFoundError: the file or one of its bases is missing.
        ValueError: the file cannot be read, holds a tag that asks for code, a key that does not
            exist or a value of the wrong type; says where, and what was expected.
    """
    cfg = get_config()
    merge_file(cfg, path)
    merge_opts(cfg, opts)
    _drop_inherited_num_classes(cfg, opts)
    return cfg


def get_config() -> CfgNode:
    """Return the defaults of all keys: detectron2's, DeepLab's and those added here.

    Add keys of your own to the result before ``merge_file`` meets them.
    """
    # Imported here since it loads detectron2's modeling, which who only adds keys can do without.
    from detectron2.projects.deeplab import add_deeplab_config

    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    add_maskformer2_video_config(cfg)
    return cfg


def merge_file(cfg: CfgNode, path: str | os.PathLike[str]) -> None:
    """Set what a config file says in ``cfg``; raise as ``load_config`` does."""
    for source, keys in read_chain(path):
        merge_keys(cfg, keys, source)
        _drop_inherited_num_classes(cfg, keys)


def _drop_inherited_num_classes(cfg: CfgNode, keys: Mapping[str, Any] | Sequence[Any]) -> None:
    """Have NUM_CLASSES taken from the data where it was set for other datasets.

    That is so where a file, or the command line, names datasets of one's own but no number: the
    number in the files that it builds on is that of their datasets.

    Args:
        cfg: in which ``keys`` are set already.
        keys: what one file says, as nested mappings, or the words of a command line.
    """
    custom = _look_up(keys, "DATASETS.CUSTOM")
    number = _look_up(keys, "MODEL.SEM_SEG_HEAD.NUM_CLASSES")
    if custom is not None and number is None and cfg.DATASETS.CUSTOM:
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = CLASSES_FROM_DATA


def _look_up(keys: Any, key: str) -> Any:
    if isinstance(keys, Sequence):
        return dict(zip(keys[::2], keys[1::2])).get(key)
    for name in key.split("."):
        keys = keys.get(name) if isinstance(keys, Mapping) else None
    return keys
