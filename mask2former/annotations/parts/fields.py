"""Single fields of annotations: ids, numbers and flags in the forms in which tools write them."""

import math
from typing import Any

from ...formats.json_files import image_key

_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "": 0, "none": 0, "null": 0, "no": 0, "yes": 1}


def id_key(value: Any) -> Any:
    """Return one form for equal ids: text of digits and whole floats become int.

    None where it is no id: null, a list or an object, NaN.
    """
    if type(value) is int:
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None if math.isnan(value) else value
    return image_key(value.strip()) if isinstance(value, str) and value.strip() else None


def number(value: Any) -> float | None:
    """Return a finite number, also of text; None where it is none."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def pixels(value: Any) -> int | None:
    """Return a side of an image, a whole number of pixels from 1 on; None where it is none."""
    found = number(value)
    return int(found) if found is not None and found >= 1 and found == int(found) else None


def flag(value: Any) -> int | None:
    """Return 0 or 1 for a flag in any form, null among them; None where its meaning is unclear."""
    if value is None:
        return 0
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return int(value) if isinstance(value, int | float) and value in (0, 1) else None
