"""Ids of categories: those of models and those of annotation files."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from detectron2.data import MetadataCatalog


class DatasetIds:
    """Maps the contiguous categories of a model to the category ids of a dataset.

    Args:
        to_contiguous: ``*_dataset_id_to_contiguous_id`` of the metadata; None where the dataset
            counts its categories from 0 itself.
        dataset_name, kind: for errors; kind is "thing" or "stuff".
    """

    def __init__(self, to_contiguous: Mapping[int, int] | None, dataset_name: str, kind: str):
        self._ids = to_contiguous and {v: k for k, v in to_contiguous.items()}
        self._name = f"{kind} classes of {dataset_name}"

    @classmethod
    def of_things(cls, dataset_name: str, categories: Sequence[Mapping[str, Any]]) -> Self:
        """Return the ids of the thing classes; without metadata, categories in ascending order."""
        ids = MetadataCatalog.get(dataset_name).get("thing_dataset_id_to_contiguous_id")
        ids = ids or {k: i for i, k in enumerate(sorted(c["id"] for c in categories))}
        return cls(ids, dataset_name, "thing")

    def __contains__(self, label: int) -> bool:
        return self._ids is None or label in self._ids

    def __getitem__(self, label: int) -> int:
        """Return the dataset's id.

        Raises:
            ValueError: the dataset has no such class.
        """
        if self._ids is None:
            return label
        if label not in self._ids:
            raise ValueError(
                f"output: class {label} is not among the {len(self._ids)} {self._name}; "
                "MODEL.SEM_SEG_HEAD.NUM_CLASSES must be that of the dataset"
            )
        return self._ids[label]
