"""Read datasets by the names that they are registered under, with what is found on the way."""

from collections.abc import Callable
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog

from ...annotations.findings import Findings
from ...annotations.readers.label_maps import look_at_maps
from ...annotations.readers.records import call, check_records
from ...annotations.registered import is_made_by, label_meaning
from .cityscapes import require_cityscapes
from .instances import InstanceLoader
from .loading import Loaded, Loader
from .panoptic import PanopticLoader


def read_dataset(name: str) -> Loaded:
    """Read a registered dataset, and keep what was found.

    Datasets that were registered by detectron2's ``register_coco_instances`` or
    ``register_coco_panoptic`` are read by our readers; what others have registered is called as it
    is.

    Raises:
        KeyError: it is not registered.
        FileNotFoundError: a file is missing.
        UserError: what others have registered fails, or gives no records.
    """
    return read_function(name, DatasetCatalog[name])


def load_dataset(name: str) -> Any:
    """Return the records of a registered dataset, and write what was found to the log.

    Raises:
        FileNotFoundError, AnnotationError: as a `Loader`.
    """
    loaded = read_dataset(name)
    loaded.findings.raise_refused()
    loaded.log(name)
    return loaded.records


def read_function(name: str, function: Callable[[], Any]) -> Loaded:
    """Read a dataset by the function that is, or was, registered for it."""
    if not isinstance(function, Loader):
        function = _ours(name, function)
    if isinstance(function, Loader):
        return function.read()
    require_cityscapes(name)  # detectron2's loader asserts that files are there
    records, findings = call(name, function), Findings(name)
    records = check_records(name, records, findings)
    maps = [r["sem_seg_file_name"] for r in records] if _is_semantic(records) else []
    meaning = label_meaning(name)
    look = partial(look_at_maps, maps, meaning, name) if maps and meaning.classes else None
    return Loaded(records, findings, sample=look)


def _is_semantic(records: Any) -> bool:
    """Return whether records have nothing but label maps to learn from."""
    others = {"annotations", "pan_seg_file_name"}
    return isinstance(records, list) and all(
        "sem_seg_file_name" in record and not others & record.keys() for record in records
    )


def _ours(name: str, function: Callable[[], Any]) -> Callable[[], Any]:
    """Return our loader for what detectron2 itself would read."""
    if is_made_by(function, "register_coco_instances"):
        return InstanceLoader(name)
    if is_made_by(function, "register_coco_panoptic"):
        return PanopticLoader(name)
    return function
