"""Names of ours in detectron2's catalogs, which give way to those of others.

detectron2 refuses a name that is there already, and metadata that differs from what is there, so
that two projects that know the same dataset cannot be imported together. Here a name of ours stays
free: whoever registers it, or sets its metadata, before or after us, has it.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

logger = logging.getLogger(__name__)

Load = Callable[[], list[dict[str, Any]]]


@dataclass
class _Offer:
    """What we know about a name: how to load it, None where detectron2 does, and its metadata."""

    load: Load | None
    metadata: Mapping[str, Any]
    filled: set[str] = field(default_factory=set)  # the entries that the catalog has from us


_OURS: dict[str, _Offer] = {}


class _Datasets(type(DatasetCatalog)):
    """detectron2's catalog, in which names of ours are found when asked for, and given away."""

    def get(self, name: str) -> list[dict[str, Any]]:
        take(name)
        return super().get(name)

    def register(self, name: str, func: Load) -> None:
        give_way(name)
        super().register(name, func)

    def __setitem__(self, name: str, func: Load) -> None:
        give_way(name)
        super().__setitem__(name, func)


class _AllMetadata(type(MetadataCatalog)):
    """detectron2's catalog, in which the metadata of names of ours is found when asked for."""

    def get(self, name: str) -> Metadata:
        _fill(name)
        return super().get(name)


class YieldingMetadata(Metadata):
    """Metadata in which entries of ours may be set to other values."""

    def __setattr__(self, key: str, value: Any) -> None:
        offer = _OURS.get(self.name)
        if offer is not None and key in offer.filled:
            offer.filled.remove(key)
            vars(self).pop(key, None)
        super().__setattr__(key, value)


# The catalogs are single objects that everybody holds, so that they change where they are.
DatasetCatalog.__class__ = _Datasets
MetadataCatalog.__class__ = _AllMetadata


def add(name: str, load: Load, metadata: Mapping[str, Any], *, lazily: bool = False) -> None:
    """Register a dataset of ours; one that has the name already is left as it is.

    Args:
        load: called when the records are asked for.
        lazily: register it when the name is asked for only.
    """
    if name in DatasetCatalog:
        return
    _remember(name, load, metadata)
    if not lazily:
        take(name)


def amend(name: str, metadata: Mapping[str, Any]) -> None:
    """Add entries that the metadata of a dataset of detectron2's lacks."""
    _remember(name, None, metadata)
    _fill(name, anew=True)


def take(name: str) -> None:
    """Register ``name`` if it is ours and nobody has it."""
    offer = _OURS.get(name)
    if offer is not None and offer.load is not None and name not in DatasetCatalog:
        DatasetCatalog.data[name] = offer.load
        _fill(name, anew=True)


def is_ours(name: str) -> bool:
    """Tell whether a name is one that we would give away."""
    return name in _OURS and DatasetCatalog.data.get(name, _OURS[name].load) is _OURS[name].load


def names() -> list[str]:
    """Return all registered names, and those of ours that wait to be asked for."""
    return list(dict.fromkeys((*DatasetCatalog, *(n for n, o in _OURS.items() if o.load))))


def give_way(name: str) -> None:
    """Remove what is ours under ``name``, which somebody else registers."""
    offer = _OURS.get(name)
    if offer is None or offer.load is None:
        return
    if DatasetCatalog.data.get(name) is offer.load:
        del DatasetCatalog.data[name]
        logger.warning("%s is registered by another project, in place of our dataset", name)
    metadata = MetadataCatalog.data.get(name)
    if isinstance(metadata, YieldingMetadata):
        for key in offer.filled:
            vars(metadata).pop(key, None)
    keep(name)


def replace(name: str, load: Load, metadata: Metadata) -> None:
    """Register ``name`` with another loader and other metadata; it stays ours where it was."""
    if is_ours(name):
        values = {key: value for key, value in vars(metadata).items() if key != "name"}
        _OURS[name] = _Offer(load, values, set(values))
        _change_class(metadata, YieldingMetadata)
    DatasetCatalog.data[name] = load
    MetadataCatalog.data[name] = metadata


def keep(name: str) -> None:
    """From now on, have detectron2's rules for ``name``."""
    _OURS.pop(name, None)
    metadata = MetadataCatalog.data.get(name)
    if isinstance(metadata, YieldingMetadata):
        _change_class(metadata, Metadata)


def _remember(name: str, load: Load | None, metadata: Mapping[str, Any]) -> None:
    before = _OURS.get(name)
    _OURS[name] = _Offer(load, metadata, before.filled if before else set())


def _fill(name: str, anew: bool = False) -> None:
    """Add our metadata of ``name``, unless somebody else has registered it.

    Args:
        anew: also where it has been done.
    """
    offer = _OURS.get(name)
    if offer is None or not (offer.load is None or is_ours(name)):
        return
    metadata = MetadataCatalog.data.setdefault(name, Metadata(name=name))
    if isinstance(metadata, YieldingMetadata) and not anew:
        return
    if not isinstance(metadata, YieldingMetadata):
        offer.filled.clear()  # they were in an object that somebody has removed
        _change_class(metadata, YieldingMetadata)
    for key, value in offer.metadata.items():
        if key in offer.filled or key not in vars(metadata):
            vars(metadata)[key] = value
            offer.filled.add(key)


def _change_class(metadata: Metadata, new: type[Metadata]) -> None:
    object.__setattr__(metadata, "__class__", new)  # Metadata's own would refuse
