"""What objects, segments and tracks have in common: a category and flags of crowd."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .documents import Document
from .fields import flag, id_key, number


class ObjectReader:
    """Read the fields that the objects of all forms have.

    Args:
        document: findings are added to its own. Its categories are those of the file: one that is
            refused makes no unknown category, since it has been said what is wrong.

    Attributes:
        count, crowd: how many objects were read, and how many of them are crowd.
    """

    def __init__(self, document: Document):
        self._findings = document.findings
        listed = document.content.get("categories") or ()
        ids = {id_key(c.get("id")) if isinstance(c, Mapping) else None for c in listed}
        self._known = ids - {None}
        self._all_known = bool(ids) and None not in ids
        self._ids: list[Any] = []
        self.count = self.crowd = 0

    def read_fields(self, entry: dict[str, Any], item: str) -> None:
        """Put category_id and iscrowd in the standard form, and count the object."""
        category = id_key(entry.get("category_id"))
        if self._all_known and category not in self._known:
            known = ", ".join(map(str, sorted(self._known, key=str)[:10]))
            self._findings.add(
                "class-unknown", item, category=entry.get("category_id"), known=known
            )
        entry["category_id"] = category
        if entry.get("iscrowd") != 0 or "ignore" in entry:
            entry["iscrowd"] = self._crowd(entry, item)
            self.crowd += entry["iscrowd"]
        self.count += 1

    def _crowd(self, entry: Mapping[str, Any], item: str) -> int:
        result = 0
        for key in ("iscrowd", "ignore"):
            value = entry.get(key, 0)
            if type(value) is int and value in (0, 1):
                result |= value
                continue
            read = flag(value)
            if read is None:
                self._findings.add("crowd-unclear", item, key=key, value=value)
            else:
                self._findings.add("crowd-form", item, key=key, value=value, read=read)
                result |= read
        return result

    def read_area(self, entry: dict[str, Any], item: str) -> None:
        """Leave the area away where it is no number of pixels, so that it is computed."""
        area = entry.get("area")
        if isinstance(area, int | float) and area is not True and 0 <= area < 1e18:
            return
        found = number(area)
        if found is None or found < 0:
            self._findings.add("area-unusable", item, value=entry.pop("area", None))
        else:
            entry["area"] = found

    def count_id(self, entry: dict[str, Any]) -> None:
        """Remember the id of an object, which should be its own in the file; drop what is none."""
        if "id" not in entry:
            return
        key = id_key(entry["id"])
        if key is None:
            del entry["id"]
        else:
            self._ids.append(key)

    def report_ids(self) -> None:
        """Report ids that several objects have."""
        for key, count in Counter(self._ids).items():
            if count > 1:
                self._findings.add("object-id-twice", f"annotation {key}")

    def report_crowd(self) -> None:
        """Report that all objects are crowd, or most of them."""
        if self.count and self.crowd == self.count:
            self._findings.add("all-crowd", count=self.count)
        elif self.crowd > self.count / 2:
            self._findings.add("mostly-crowd", crowd=self.crowd, count=self.count)


def object_name(entry: Mapping[str, Any], index: int) -> str:
    """Return what messages call an object: by its id, or its place in the list of all."""
    number = entry.get("id")
    return f"annotation {number}" if number is not None else f"annotation number {index}"
