"""Classes of a model by the names and ids of a dataset."""

from collections.abc import Mapping
from typing import Any

from ..errors import UserError


def class_name(metadata: Mapping[str, Any], label: int, is_thing: bool) -> str:
    """Return the name of a contiguous class; its number where the metadata have no name.

    Panoptic datasets of the published model list all classes in stuff_classes, and the number of
    a thing is its index there. Elsewhere (instance datasets, the panoptic ones that detectron2
    calls separated) things are counted in thing_classes.
    """
    things = metadata.get("thing_classes") or []
    names = metadata.get("stuff_classes") or things
    if is_thing and things and (label >= len(names) or names[label] not in things):
        names = things
    return names[label] if label < len(names) else str(label)


class CategoryIds:
    """Map the contiguous categories of a model to the category ids of a dataset.

    Args:
        to_contiguous: ``*_dataset_id_to_contiguous_id`` of the metadata; None where the dataset
            counts its categories from 0 itself.
        dataset_name, kind: for errors; kind is "thing" or "stuff".
    """

    def __init__(self, to_contiguous: Mapping[int, int] | None, dataset_name: str, kind: str):
        self._ids = to_contiguous and {v: k for k, v in to_contiguous.items()}
        self._name = f"{kind} classes of {dataset_name}"

    def __contains__(self, label: int) -> bool:
        return self._ids is None or label in self._ids

    def __getitem__(self, label: int) -> int:
        """Return the dataset's id.

        Raises:
            UserError: the dataset has no such class.
        """
        if self._ids is None:
            return label
        if label not in self._ids:
            raise UserError(
                f"output: class {label} is not among the {len(self._ids)} {self._name}; "
                "MODEL.SEM_SEG_HEAD.NUM_CLASSES must be that of the dataset"
            )
        return self._ids[label]
