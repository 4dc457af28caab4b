"""Merging of keys from files and command lines into a config, with errors that help."""

import ast
import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode


def merge_keys(cfg: CfgNode, keys: Mapping[str, Any], source: str) -> None:
    """Set the keys of nested dicts in ``cfg``: all of them, or none where one does not fit.

    A string that reads as a Python literal stands for it, as in detectron2 (``"(1, 2)"``, ``1e-4``
    which yaml takes for a string); a list fits where a tuple is expected and the other way round,
    and a whole number where a float is. None fits everywhere.

    Args:
        source: where the keys come from, for the errors.

    Raises:
        ValueError: a key that ``cfg`` lacks (names the nearest ones), a value of another type than
            the key has, or a config written for another version of detectron2's keys.
    """
    version = keys.get("VERSION", cfg.VERSION)
    if version != cfg.VERSION:
        raise ValueError(
            f"{source}: expected VERSION {cfg.VERSION}, got {version!r}; bring old files up to date"
            " with detectron2.config.upgrade_config"
        )
    for node, name, value in list(_check_node(cfg, cfg, keys, source, ())):
        setattr(node, name, value)


def merge_opts(cfg: CfgNode, opts: Sequence[Any]) -> None:
    """Set ``KEY VALUE KEY VALUE ...``, as they come from a command line, in ``cfg``.

    Raises:
        ValueError: as ``merge_keys``, and for a key without a value.
    """
    if len(opts) % 2:
        words = " ".join(map(str, opts))
        raise ValueError(f"expected pairs of KEY VALUE, got an odd number of words: {words}")
    for key, value in zip(opts[::2], opts[1::2], strict=True):
        nested = value
        for name in reversed(str(key).split(".")):
            nested = {name: nested}
        merge_keys(cfg, nested, "command line")


def _check_node(
    root: CfgNode, node: CfgNode, keys: Mapping[str, Any], source: str, path: tuple[str, ...]
) -> Iterator[tuple[CfgNode, str, Any]]:
    """Yield (node, name, fitting value) for the leaves of ``keys``."""
    for name, value in keys.items():
        key = ".".join((*path, name))
        if name not in node:
            raise ValueError(f"{source}: there is no config key {key}{_suggestion(root, key)}")
        current = node[name]
        if not isinstance(current, CfgNode):
            yield node, name, _fit(value, current, key, source)
        elif isinstance(value, Mapping):
            yield from _check_node(root, current, value, source, (*path, name))
        else:
            raise ValueError(
                f"{source}: {key} holds further keys, expected a mapping, got {value!r}"
            )


def _fit(value: Any, current: Any, key: str, source: str) -> Any:
    """Return a copy of ``value`` in the type of ``current``."""
    value = _decode(copy.deepcopy(value), isinstance(current, str))
    expected, given = type(current), type(value)
    if given is expected or value is None or current is None:
        return value
    if {given, expected} == {list, tuple} or (given, expected) == (int, float):
        return expected(value)
    hint = f"; for a single entry write [{value!r}]" if expected in (list, tuple) else ""
    raise ValueError(
        f"{source}: {key} expects {expected.__name__} (such as {current!r}),"
        f" got {given.__name__}: {value!r}{hint}"
    )


def _decode(value: Any, is_text: bool) -> Any:
    """Read a string as the literal that it spells; where text is wanted, only a quoted string."""
    if not isinstance(value, str):
        return value
    try:
        decoded = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return value  # plain text
    return value if is_text and not isinstance(decoded, str) else decoded


def _suggestion(cfg: CfgNode, key: str) -> str:
    known = list(_dotted_keys(cfg))
    name = key.rpartition(".")[2].upper()
    elsewhere = [other for other in known if other.rpartition(".")[2] == name]
    similar = difflib.get_close_matches(key.upper(), known, n=3)
    nearest = list(dict.fromkeys(elsewhere + similar))[:3]
    return f"; nearest: {', '.join(nearest)}" if nearest else ""


def _dotted_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, CfgNode):
            yield from _dotted_keys(value, f"{prefix}{name}.")
