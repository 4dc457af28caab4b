"""Names of classes as text, from files whose values need not be text."""

import math
from collections.abc import Mapping, Sequence

from ..errors import UserError


def class_text(value: object, where: str) -> str:
    """Return the name of one class as text.

    Args:
        value: text, which stays as it is, or a number, which is written out: 1 is "1".
        where: what messages call the place that holds it, as "a.json: category 3".

    Raises:
        UserError: it is none of these (off, yes and true are truth values in yaml), is not
            finite, is blank, or has half a character.
    """
    if isinstance(value, bool):
        words = "true, yes or on" if value else "false, no or off"
        raise UserError(
            f"{where}: the name of a class has to be text, but {words} without quotes is the truth "
            f"value {str(value).lower()}; put the name in quotes"
        )
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    if not isinstance(value, str):
        raise UserError(
            f"{where}: the name of a class has to be text, not {value!r}; write a name, in quotes "
            "if it is a word such as null"
        )
    if not value.strip():
        raise UserError(f"{where}: the name of a class has to be text, but {value!r} is blank")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UserError(f"{where}: the name {value!r} has half a character, which no file can hold")
    return value


def class_texts(values: Sequence[object] | Mapping[object, object], where: str) -> list[str]:
    """Return the names of classes, each of which may occur once, as text.

    Args:
        values: as `class_text` takes them, in order, or by label.
        where: what messages call the list or mapping.

    Raises:
        UserError: as `class_text`, or a name occurs twice; names both places.
    """
    is_mapping = isinstance(values, Mapping)
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values)
    places: dict[str, object] = {}
    for place, value in pairs:
        text = class_text(value, f"{where}, {'label' if is_mapping else 'position'} {place}")
        if text in places:
            what = "labels" if is_mapping else "positions"
            raise UserError(
                f"{where}: the name {text!r} is at the {what} {places[text]} and {place}; the name "
                "of a class may occur once"
            )
        places[text] = place
    return list(places)
