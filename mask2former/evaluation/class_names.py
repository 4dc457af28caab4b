"""Names of classes, in the several ways in which datasets list them."""

from detectron2.data import Metadata


def class_name(metadata: Metadata, label: int, is_thing: bool) -> str:
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
