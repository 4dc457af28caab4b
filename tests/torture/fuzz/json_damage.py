"""Damage done to json with its structure in mind, from a seeded generator."""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

from tests.torture.fuzz.raw import damaged_bytes, damaged_text

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 255, 256, 65535, 2**31 - 1, 2**31, 2**32, 2**63, 2**64),
    *(-(2**31), -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, 1.5, -1.5, 1e9, 1e18, 1e308, 5e-324),
    *(math.nan, math.inf, -math.inf, "", " ", "x", "0", "1", " 7 ", "1e3", "nan", "true", "null"),
    *(
        "\ud800",
        "\0",
        "é",
        "../../etc/passwd",
        "/etc/passwd",
        "C:\\a",
        "http://a/b?c=d",
        "9" * 5000,
    ),
    *("~", "%s", "{0}", "{}", "{a[b]}", [], {}, [[]], [{}], [None], [0], [1, 2], [1, 2, 3, 4]),
    *(["a"], {"a": 1}, {"id": 1}, [[1, 2, 3, 4, 5, 6]], [[0.0] * 6], [1e308] * 6, [10**400] * 6),
    *(
        {"size": [4, 4], "counts": "0"},
        {"size": [4, 4], "counts": [16]},
        {"counts": []},
        [True] * 4,
    ),
    *({"size": [1 << 30, 1 << 30], "counts": "0"}, {"size": [-1, -1], "counts": [1]}, [[math.nan]]),
    *(
        {"size": "ab", "counts": "\xff"},
        {"size": {"a": 1}, "counts": None},
        "²",
        "١",
        "1_0",
        [-1] * 4,
    ),
)


def damaged_json(rng: random.Random, value: Any) -> Any:
    """Return a copy of a json value with one to four changes anywhere in it."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(value))
        if not places:
            return rng.choice(ODD_VALUES)
        holder, key = rng.choice(places)
        _change(rng, holder, key, places)
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return all (container, key or index) of a json value, to a depth that ends."""
    found, waiting = [], [value]
    while waiting and len(found) < 3000:
        item = waiting.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item))
        for key in keys:
            found.append((item, key))
            if isinstance(item[key], dict | list) and item[key]:
                waiting.append(item[key])
    return found


def _change(rng: random.Random, holder: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    other, at = rng.choice(places)
    kind = rng.randrange(9)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif kind == 2:
        holder[key] = copy.deepcopy(other[at])
    elif kind == 3:
        holder[key] = [holder[key]]
    elif kind == 4:
        holder[key] = str(holder[key])
    elif kind == 5 and isinstance(holder[key], int | float) and abs(holder[key]) < 1e300:
        holder[key] = holder[key] * rng.choice((-1, 2, 0.5, 1000, 1e9)) + rng.choice((0, 1, 0.1))
    elif kind == 6 and isinstance(holder[key], str):
        holder[key] = damaged_text(rng, holder[key])
    elif kind == 7 and isinstance(holder, dict):
        holder[rng.choice(("id", "size", "counts", "iscrowd", "", "a"))] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))


def as_json(rng: random.Random, value: Any) -> bytes:
    """Return the text of a json value, itself damaged in a case of ten."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass")
    return damaged_bytes(rng, text) if rng.random() < 0.1 else text
