"""Single fields of annotations: ids, numbers and flags in the forms in which tools write them."""

import math
from typing import Any

_FLAGS = {"false": 0, "true": 1, "": 0, "none": 0, "null": 0, "no": 0, "yes": 1}
_KINDS = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
_LONGEST_ID = 1000  # digits; Python turns 4300 into a number
_FAR = 1e18  # larger numbers measure nothing, and are more than C counts to


def id_key(value: Any) -> Any:
    """Return one form for equal ids: text of digits and whole floats become int.

    None where it is no id: null, a list or an object, NaN.
    """
    if type(value) is int:
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None if math.isnan(value) else value
    text = value.strip() if isinstance(value, str) else ""
    return int(text) if text.isdecimal() and len(text) < _LONGEST_ID else text or None


def number(value: Any) -> float | None:
    """Return a finite number, also of text; None where it is none, or beyond all measure."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and -_FAR < value < _FAR else None


def pixels(value: Any) -> int | None:
    """Return a side of an image, a whole number of pixels from 1 on; None where it is none."""
    found = number(value)
    return int(found) if found is not None and found >= 1 and found == int(found) else None


def flag(value: Any) -> int | None:
    """Return 0 or 1 for a flag in any form, null among them; None where its meaning is unclear."""
    if value is None:
        return 0
    if isinstance(value, str):
        text = value.strip().lower()
        value = _FLAGS.get(text, number(text))
    return int(value) if isinstance(value, int | float) and value in (0, 1) else None


def kind_of(value: Any) -> str:
    """Return what json calls a value: "a list", "text"."""
    return _KINDS.get(type(value), "a number")
