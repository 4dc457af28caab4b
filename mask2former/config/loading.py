"""Configs from defaults, then a file with its bases, then a command line, with errors that help."""

import ast
import copy
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..errors import UserError
from .keys import CLASSES_FROM_DATA, add_maskformer2_config, add_video_keys
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
        UserError: the file cannot be read, holds a tag that asks for code, a key that does not
            exist or a value of the wrong type; says where, and what was expected.
    """
    cfg = get_config()
    merge_file(cfg, path)
    merge_opts(cfg, opts)
    _drop_inherited_classes(cfg, opts)
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
    add_video_keys(cfg)
    return cfg


def merge_file(cfg: CfgNode, path: str | os.PathLike[str]) -> None:
    """Set what a config file says in ``cfg``; raise as ``load_config`` does."""
    for source, keys in read_chain(path):
        merge_keys(cfg, keys, source)
        if _look_up(keys, "DATASETS.CUSTOM") is not None:
            cfg.DATASETS.CUSTOM = [_find_paths(e, source) for e in cfg.DATASETS.CUSTOM]
        _drop_inherited_classes(cfg, keys)


def merge_keys(cfg: CfgNode, keys: Mapping[str, Any], source: str) -> None:
    """Set the keys of nested dicts in ``cfg``: all of them, or none where one does not fit.

    A string that reads as a Python literal stands for it, as in detectron2 (``"(1, 2)"``, ``1e-4``
    which yaml takes for a string); a list fits where a tuple is expected and the other way round,
    and a whole number where a float is. None fits everywhere.

    Args:
        source: where the keys come from, for the errors.

    Raises:
        UserError: a key that ``cfg`` lacks (names the nearest ones), a value of another type than
            the key has, or a config written for another version of detectron2's keys.
    """
    version = keys.get("VERSION", cfg.VERSION)
    if version != cfg.VERSION:
        raise UserError(
            f"{source}: expected VERSION {cfg.VERSION}, got {version!r}; bring old files up to date"
            " with detectron2.config.upgrade_config"
        )
    for node, name, value in list(_check_node(cfg, cfg, keys, source, ())):
        setattr(node, name, value)


def merge_opts(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Set ``KEY VALUE KEY VALUE ...``, as they come from a command line, in ``cfg``.

    Raises:
        UserError: as ``merge_keys``, and for a key without a value.
    """
    if len(opts) % 2:
        words = " ".join(map(str, opts))
        raise UserError(f"expected pairs of KEY VALUE, got an odd number of words: {words}")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        nested = value
        for name in reversed(str(key).split(".")):
            nested = {name: nested}
        merge_keys(cfg, nested, "command line")


def changed(cfg: CfgNode, *opts: Any) -> CfgNode:
    """Return a copy with ``KEY, VALUE, KEY, VALUE, ...`` set, frozen where ``cfg`` is."""
    copied = cfg.clone()
    copied.defrost()
    merge_opts(copied, opts)
    if cfg.is_frozen():
        copied.freeze()
    return copied


def flat_items(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a config, or of nested mappings, by dotted key; tuples as lists."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flat_items(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def nearest_names(name: str, known: Iterable[str]) -> str:
    """Return "; nearest: ..." with up to three names, or "" where none is near.

    Names whose part behind the last dot or slash is the same come before similar ones.
    """
    known = list(known)
    end = re.split(r"[./]", name)[-1]
    same_end = [other for other in known if re.split(r"[./]", other)[-1] == end]
    similar = difflib.get_close_matches(name, known, n=3)
    nearest = list(dict.fromkeys(same_end + similar))[:3]
    return f"; nearest: {', '.join(nearest)}" if nearest else ""


def _drop_inherited_classes(cfg: CfgNode, keys: Mapping[str, Any] | Sequence[Any]) -> None:
    """Have classes taken from the data where they were set for other datasets.

    NUM_CLASSES where a file, or the command line, names custom datasets but no number: the number
    in the files that it builds on is that of their datasets. MODEL.CLASSES likewise, where it says
    anew what to train on or how many classes there are, but not which.

    Args:
        cfg: in which ``keys`` are set already.
        keys: what one file says, as nested mappings, or the words of a command line.
    """
    custom = _look_up(keys, "DATASETS.CUSTOM")
    number = _look_up(keys, "MODEL.SEM_SEG_HEAD.NUM_CLASSES")
    if custom is not None and number is None and cfg.DATASETS.CUSTOM:
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = CLASSES_FROM_DATA
    entries = cfg.DATASETS.CUSTOM if custom is not None else []
    renewed = [e for e in entries if isinstance(e, Mapping) and e.get("name") in cfg.DATASETS.TRAIN]
    trains = _look_up(keys, "DATASETS.TRAIN") is not None or renewed
    if (trains or number is not None) and _look_up(keys, "MODEL.CLASSES.NAMES") is None:
        for key in cfg.MODEL.CLASSES:
            setattr(cfg.MODEL.CLASSES, key, [])


def _find_paths(entry: Any, source: str) -> Any:
    """Return an entry of DATASETS.CUSTOM with the paths that are there beside the config only."""
    if not isinstance(entry, Mapping):
        return entry
    found = dict(entry)
    for key in ("image_root", "annotations", "panoptic_root", "sem_seg_root"):
        path = entry.get(key)
        if isinstance(path, str) and path and not os.path.exists(path):
            beside = os.path.join(os.path.dirname(source), path)
            found[key] = beside if os.path.exists(beside) else path
    return found


def _look_up(keys: Any, key: str) -> Any:
    if isinstance(keys, Sequence):
        return dict(zip(keys[::2], keys[1::2])).get(key)
    for name in key.split("."):
        keys = keys.get(name) if isinstance(keys, Mapping) else None
    return keys


def _check_node(
    root: CfgNode, node: CfgNode, keys: Mapping[str, Any], source: str, path: tuple[str, ...]
) -> Iterator[tuple[CfgNode, str, Any]]:
    """Yield (node, name, fitting value) for the leaves of ``keys``."""
    for name, value in keys.items():
        key = ".".join((*path, name))
        if name not in node:
            nearest = nearest_names(key.upper(), _dotted_keys(root))
            raise UserError(f"{source}: there is no config key {key}{nearest}")
        current = node[name]
        if not isinstance(current, CfgNode):
            yield node, name, _fit(value, current, key, source)
        elif isinstance(value, Mapping):
            yield from _check_node(root, current, value, source, (*path, name))
        else:
            raise UserError(
                f"{source}: {key} holds further keys, expected a mapping, got {value!r}"
            )


def _fit(value: Any, current: Any, key: str, source: str) -> Any:
    """Return a copy of ``value`` in the type of ``current``."""
    value = _decode(copy.deepcopy(value), isinstance(current, str))
    expected, given = type(current), type(value)
    if given is expected or value is None or current is None:
        return value
    if {given, expected} == {list, tuple} or (given, expected) == (int, float):
        with suppress(OverflowError):  # of numbers beyond all floats
            return expected(value)
    hint = f"; for a single entry write [{value!r}]" if expected in (list, tuple) else ""
    raise UserError(
        f"{source}: {key} expects {expected.__name__} (such as {current!r}),"
        f" got {given.__name__}: {value!r}{hint}"
    )


def _decode(value: Any, is_text: bool) -> Any:
    """Read a string as the literal that it spells; where text is wanted, only a quoted string."""
    if not isinstance(value, str):
        return value
    try:
        decoded = ast.literal_eval(value)
        repr(decoded)  # no number may be longer than Python writes
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return value  # plain text
    return value if is_text and not isinstance(decoded, str) else decoded


def _dotted_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, CfgNode):
            yield from _dotted_keys(value, f"{prefix}{name}.")
