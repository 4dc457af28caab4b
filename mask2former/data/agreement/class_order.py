"""One order of classes for all datasets of a config: they are known by name, not by number."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from ...classes import Classes
from ...errors import UserError
from ..datasets import catalog
from ..datasets.loading import Loaded, Loader, Record
from ..datasets.registered import read_function
from .num_classes import COUNT_OTHERWISE, class_names, datasets_in_use

# Evaluators of others, which count classes as the files of their dataset do.
_FIXED_ORDER = ("lvis", "cityscapes_instance", "cityscapes_sem_seg", "cityscapes_panoptic_seg")


def match_classes(
    cfg: CfgNode, datasets: Iterable[str] | None = None, classes: Classes | None = None
) -> Classes | None:
    """Bring datasets to the model's order of classes, by name.

    The order is that of MODEL.CLASSES.NAMES, or else of the first dataset as it was registered. A
    dataset that has the same classes in another order is registered in this one from now on:
    metadata made anew (who holds the old ones keeps them), and records with other category ids.

    Args:
        datasets: those to match; None for all whose classes are the model's. Those whose names are
            not known before they are loaded pass.
        classes: of the model, by its checkpoint; None for those of the config.

    Returns:
        The classes of the model; None where they are not known, or the model counts otherwise.

    Raises:
        UserError: a dataset has other classes, or cannot be brought to this order; names them. Or
            MODEL.CLASSES is not of its form or does not fit NUM_CLASSES.
    """
    if cfg.MODEL.META_ARCHITECTURE in COUNT_OTHERWISE:
        return None
    used, source = datasets_in_use(cfg), "the checkpoint"
    for name in used:
        catalog.take(name)
    if classes is None and (classes := _read_config(cfg)):
        agreeing = (name for name in used if class_names(cfg, name) == list(classes.names))
        source = next(agreeing, "MODEL.CLASSES.NAMES")
    if classes is None:
        number = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
        found = [name for name in used if len(class_names(cfg, name)) == number]
        if not found:
            return None
        source = found[0]
        _restore(source)
        classes = Classes.from_metadata(MetadataCatalog.get(source), class_names(cfg, source))
    for name in used if datasets is None else datasets:
        names = class_names(cfg, name)
        if name != source and name in DatasetCatalog and names:
            _match(name, Classes.from_metadata(MetadataCatalog.get(name), names), classes, source)
    return classes


def match_classes_late(cfg: CfgNode, name: str, is_train: bool) -> bool:
    """Match a dataset whose names are known only since it was loaded.

    Returns:
        Whether it was given another order, so that it has to be loaded anew.

    Raises:
        UserError: as `match_classes`; or it is one to test on, and needs another order.
    """
    metadata = MetadataCatalog.get(name)
    match_classes(cfg)
    if MetadataCatalog.get(name) is metadata:
        return False
    if not is_train:
        raise UserError(
            f"{name} has its classes in another order, which is known only now that it is loaded, "
            "too late for its evaluator; describe it in DATASETS.CUSTOM"
        )
    return True


def _read_config(cfg: CfgNode) -> Classes | None:
    classes, number = Classes.from_config(cfg), cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if classes is not None and len(classes.names) != number:
        raise UserError(
            f"MODEL.CLASSES.NAMES has {len(classes.names)} names, but "
            f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {number}; NAMES [] takes them from the data"
        )
    return classes


def _match(name: str, found: Classes, wanted: Classes, source: str) -> None:
    """Bring one dataset to the order of the model's classes."""
    difference = found.difference(wanted, name, source)
    if set(found.names) != set(wanted.names) or len(found.names) != len(wanted.names):
        hint = "; NAMES [] takes them from the data" if source.startswith("MODEL") else ""
        if _loosely(found.names) == _loosely(wanted.names):
            hint += "; these differ in capitals or spaces alone"
        raise UserError(
            f"DATASETS: {name} has other classes than {source}: {difference}. Datasets of a config "
            f"need classes of the same names, in any order{hint}"
        )
    things = [{c.names[i] for i in c.thing_ids} for c in (found, wanted)]
    if all(things) and things[0] != things[1]:
        odd = ", ".join(sorted(things[0] ^ things[1]))
        raise UserError(
            f"DATASETS: {odd}: things in one of {name} and {source}, and stuff in the other"
        )
    if difference or _has_gaps(MetadataCatalog.get(name), found.names):
        _reorder(name, wanted.names)


def _loosely(names: Iterable[str]) -> set[str]:
    return {"".join(name.casefold().split()) for name in names}


def _has_gaps(metadata: Metadata, things: Sequence[str]) -> bool:
    """Return whether things that a model counts alone have the numbers of a panoptic dataset."""
    names = metadata.get("stuff_classes") or []
    ids = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    alone = len(things) < len(names) and set(things) <= set(names)
    # Without a table of ids, as for Cityscapes' instances, records count their things themselves.
    return alone and bool(ids) and sorted(ids.values()) != list(range(len(things)))


class _Reordered(Loader):
    """The loader of a dataset whose classes were given another order.

    Args:
        load: the loader that was registered.
        metadata: of the dataset as it was registered.
        new_ids: of categories, by those that ``load`` gives.
    """

    def __init__(self, load: Callable[[], Any], metadata: Metadata, new_ids: Mapping[int, int]):
        super().__init__(metadata.name, self._read)
        self.load = load
        self.metadata = metadata
        self._new_ids = new_ids

    def _read(self) -> Loaded:
        current, MetadataCatalog[self._name] = MetadataCatalog.get(self._name), self.metadata
        try:  # loaders read the metadata, and some compare them with the file
            loaded = read_function(self._name, self.load)
        finally:
            MetadataCatalog[self._name] = current
        if not isinstance(loaded.records, list):
            raise UserError(
                f"{self._name} is no list of records, so that its classes cannot be given another "
                "order; set MODEL.CLASSES.NAMES to the names in its order"
            )
        return replace(loaded, records=[_renumber(r, self._new_ids) for r in loaded.records])


def _renumber(record: Record, new_ids: Mapping[int, int]) -> Record:
    changed = {
        key: [a | {"category_id": new_ids.get(a["category_id"], a["category_id"])} for a in items]
        for key in ("annotations", "segments_info")
        if (items := record.get(key))
    }
    return record | changed


def _restore(name: str) -> None:
    """Undo `_reorder`."""
    if name in DatasetCatalog and isinstance(load := DatasetCatalog[name], _Reordered):
        catalog.replace(name, load.load, load.metadata)


def _reorder(name: str, wanted: Sequence[str]) -> None:
    """Register a dataset in another order of its classes.

    Args:
        wanted: names of all its classes; or of its things, which then come first.
    """
    _restore(name)
    metadata = MetadataCatalog.get(name)
    names = list(metadata.get("stuff_classes") or metadata.get("thing_classes"))
    order = [*wanted, *(n for n in names if n not in wanted)]
    if order == names:
        return
    if problem := _why_fixed(metadata, names):
        raise UserError(
            f"DATASETS: {name} has the wanted classes in another order, which it cannot be given: "
            f"{problem}; set MODEL.CLASSES.NAMES to the names in its order"
        )
    new_ids = {old: order.index(n) for old, n in enumerate(names)}
    load = _Reordered(DatasetCatalog[name], metadata, new_ids)
    catalog.replace(name, load, _reordered(metadata, names, new_ids))


def _why_fixed(metadata: Metadata, names: Sequence[str]) -> str | None:
    """Say why the order of the classes cannot be changed; None where it can."""
    if len(set(names)) < len(names):
        return "a name occurs twice"
    if not set(metadata.get("thing_classes") or ()) <= set(names):
        return "things and stuff are counted apart"
    if metadata.get("evaluator_type") in _FIXED_ORDER:
        return f"the evaluator {metadata.evaluator_type} counts them so"
    if metadata.get("json_file") and not metadata.get("thing_dataset_id_to_contiguous_id"):
        return "thing_dataset_id_to_contiguous_id is not known"
    return None


def _reordered(metadata: Metadata, names: Sequence[str], new_ids: Mapping[int, int]) -> Metadata:
    """Return metadata with the same classes under other numbers."""
    values = metadata.as_dict()
    places = {name: new_ids[old] for old, name in enumerate(names)}
    for kind in ("thing", "stuff"):
        listed = values.get(f"{kind}_classes") or []
        order = sorted(range(len(listed)), key=lambda i: places[listed[i]])
        for key in (f"{kind}_classes", f"{kind}_colors"):
            if len(values.get(key) or []) == len(listed):
                values[key] = [values[key][i] for i in order]
        ids = values.get(f"{kind}_dataset_id_to_contiguous_id")
        if ids:
            renumbered = {i: new_ids[old] for i, old in ids.items()}
            values[f"{kind}_dataset_id_to_contiguous_id"] = renumbered
    if values.get("stuff_classes"):  # label maps keep their numbers, so their meaning moves
        numbers = values.get("sem_seg_labels") or range(len(names))
        moved = sorted(range(len(names)), key=new_ids.__getitem__)
        labels = [numbers[old] for old in moved]
        if labels != list(numbers):
            values["sem_seg_labels"] = labels
    return Metadata(**values)


def label_numbers(cfg: CfgNode, name: str) -> dict[str, Any]:
    """Return what the numbers in a dataset's label maps mean.

    Returns:
        "sem_seg_labels", the numbers of the classes 0, 1, ..., None where they are these; and
        "ignore_label", the number of pixels without a class.
    """
    metadata = MetadataCatalog.get(name)
    ignore_label = metadata.get("ignore_label", cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
    return {"sem_seg_labels": metadata.get("sem_seg_labels"), "ignore_label": ignore_label}


def mapper_labels(cfg: CfgNode) -> dict[str, Any]:
    """Return the same for the first training set, with an ignore_label that is no class."""
    ignore_label = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    if not cfg.DATASETS.TRAIN:
        return {"ignore_label": ignore_label}
    numbers = label_numbers(cfg, cfg.DATASETS.TRAIN[0])
    if numbers["sem_seg_labels"] is None:
        return numbers
    # The dataset's own ignore label may be the new number of a class.
    is_free = ignore_label >= len(numbers["sem_seg_labels"])
    return numbers | {"ignore_label": ignore_label if is_free else 65535}
