"""Ids of categories: those of models and those of annotation files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def ids_in_order(categories: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Return ``to_contiguous`` where metadata lack it: category ids in ascending order."""
    return {category: i for i, category in enumerate(sorted(c["id"] for c in categories))}


class DatasetIds:
    """Maps the contiguous categories of a model to the category ids of a data set.

    Args:
        to_contiguous: ``*_dataset_id_to_contiguous_id`` of the metadata; None where the data set
            counts its categories from 0 itself.
        dataset_name, kind: for errors; kind is "thing" or "stuff".
    """

    def __init__(self, to_contiguous: Mapping[int, int] | None, dataset_name: str, kind: str):
        self._ids = to_contiguous and {v: k for k, v in to_contiguous.items()}
        self._name = f"{kind} classes of {dataset_name}"

    def __contains__(self, label: int) -> bool:
        return self._ids is None or label in self._ids

    def __getitem__(self, label: int) -> int:
        """The data set's id.

        Raises:
            ValueError: the data set has no such class.
        """
        if self._ids is None:
            return label
        if label not in self._ids:
            raise ValueError(
                f"output: class {label} is not among the {len(self._ids)} {self._name}; "
                "MODEL.SEM_SEG_HEAD.NUM_CLASSES must be that of the data set"
            )
        return self._ids[label]
