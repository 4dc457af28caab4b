"""The classes of an annotation file: ids, names and colours, each once."""

import colorsys
import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from ...errors import UserError
from ...formats.class_names import class_text
from ..findings import Findings, some
from .documents import Document
from .fields import flag, id_key, number

Category = dict[str, Any]

_HEX = re.compile(r"#?([0-9a-fA-F]{6})([0-9a-fA-F]{2})?")  # an opacity may follow


def read_categories(
    document: Document,
    used: Collection[Any],
    *,
    with_things: bool = False,
    need_names: bool = True,
) -> list[Category]:
    """Read the categories of an annotation file.

    Args:
        document: findings are added to its own.
        used: ids, as ``id_key`` gives them, that objects have.
        with_things: whether each has to say if it is a thing (isthing), as in panoptic json.
        need_names: False calls a category without a name by its id.

    Returns:
        categories by id, each with id (as ``id_key`` gives it), name (text, unique), color (RGB in
        0..255), isthing where wanted, and what else the file says.
    """
    findings = document.findings
    by_id: dict[Any, Category] = {}
    repeated: Counter[Any] = Counter()
    for entry in document.entries("categories", "category"):
        key = id_key(entry.get("id"))
        if key is None:
            findings.add("class-id-missing", name=entry.get("name"))
        elif key not in by_id:
            by_id[key] = entry
        elif by_id[key] == entry:
            repeated[key] += 1
        else:
            first, second = by_id[key].get("name"), entry.get("name")
            findings.add("class-id-shared", f"category {key}", first=first, second=second)
    for key, count in repeated.items():
        findings.add("class-repeated", f"category {key}", count=count + 1)
    if not by_id and not findings.of("refused"):
        findings.add("no-classes")
    ordered = [by_id[key] | {"id": key} for key in sorted(by_id, key=_order)]
    for category in ordered:
        if not need_names and category.get("name") in (None, ""):
            category["name"] = str(category["id"])
    named = [c for c in ordered if _read_name(c, findings)]
    categories = _without_doubles(named, used, findings)
    _read_colors(categories, findings)
    if with_things:
        _read_things(categories, findings)
    return categories


def palette(count: int) -> list[list[int]]:
    """``count`` colours that neighbours in the list tell apart, RGB in 0..255."""
    golden = (5**0.5 - 1) / 2  # steps of hue that never come back to the same place
    tones = (
        colorsys.hsv_to_rgb(
            index * golden % 1, (0.85, 0.55)[index % 2], (0.95, 0.75, 0.6)[index % 3]
        )
        for index in range(count)
    )
    return [[round(255 * channel) for channel in tone] for tone in tones]


def _order(key: Any) -> tuple[bool, Any]:
    """Sort numbers before text."""
    return isinstance(key, str), key


def _read_name(category: Category, findings: Findings) -> bool:
    name, item = category.get("name"), f"category {category['id']}"
    if name is None or (isinstance(name, str) and not name.strip()):
        findings.add("class-nameless", item)
        return False
    try:
        category["name"] = class_text(name, "")
    except UserError as error:
        findings.add("class-name-form", item, problem=str(error).removeprefix(": "))
        return False
    if category["name"] != name:
        findings.add("class-name-number", item, value=name)
    return True


def _without_doubles(
    categories: Sequence[Category], used: Collection[Any], findings: Findings
) -> list[Category]:
    """Refuse two used categories of one name; leave unused ones of a name that is taken out."""
    holders: dict[str, Category] = {}
    for category in sorted(categories, key=lambda c: c["id"] not in used):  # used ones first
        holder = holders.setdefault(category["name"], category)
        if holder is category:
            continue
        item, name = f"category {category['id']}", category["name"]
        if category["id"] in used:
            findings.add(
                "class-name-doubled", item, name=name, first=holder["id"], second=category["id"]
            )
        else:
            findings.add("class-name-doubled-unused", item, name=name, other=holder["id"])
    kept = [c for c in categories if holders[c["name"]] is c]
    unused = [str(c["name"]) for c in kept if used and c["id"] not in used]
    if unused:
        findings.add("class-unused", names=some(unused))
    return kept


def _read_colors(categories: Sequence[Category], findings: Findings) -> None:
    for category, other in zip(categories, palette(len(categories))):
        if "color" not in category:
            category["color"] = other
            continue
        value, item = category["color"], f"category {category['id']}"
        color = _color(value)
        if color is None:
            findings.add("class-color-unusable", item, value=value)
        elif color != value:
            findings.add("class-color", item, value=value, read=color)
        category["color"] = color or other


def _color(value: Any) -> list[int] | None:
    """Return RGB in 0..255 of a list of three numbers, or of text such as "#2080c0"."""
    if isinstance(value, str) and (match := _HEX.fullmatch(value.strip())):
        return list(bytes.fromhex(match[1]))
    if not isinstance(value, list | tuple) or len(value) not in (3, 4):
        return None
    channels = [number(v) for v in value[:3]]
    if any(c is None or not 0 <= c <= 255 for c in channels):
        return None
    scale = 255 if any(0 < c < 1 for c in channels if c is not None) else 1  # parts of one
    return [round(scale * c) for c in channels if c is not None]


def _read_things(categories: Sequence[Category], findings: Findings) -> None:
    for category in categories:
        value = category.get("isthing")
        isthing = flag(value) if value is not None else None
        if isthing is None:
            findings.add("isthing-missing", f"category {category['id']}", value=value)
        category["isthing"] = isthing or 0
