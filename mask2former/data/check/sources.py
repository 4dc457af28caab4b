"""Open datasets for checking: what training would get of them, and what was found on the way."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.data import Metadata, MetadataCatalog

from ...annotations.findings import AnnotationError, Findings
from ..datasets.common import require_registered
from ..datasets.loading import Loaded
from ..datasets.registered import read_dataset
from .records import Kind, Meaning

Record = dict[str, Any]

_MISSING = {"image-file-missing", "image-name-missing", "map-name-missing", "frame-names-missing"}


@dataclass
class Source:
    """A dataset to check.

    Attributes:
        loaded: what training gets; contiguous categories are None for an unknown one.
    """

    name: str
    meaning: Meaning
    loaded: Loaded

    @property
    def records(self) -> Sequence[Record]:
        """Return the records that training gets, but those of files that are known to be missing.

        The reader has looked for each of these, and said so.
        """
        records = self.loaded.records
        if not _MISSING & self.loaded.findings.counts.keys():
            return records
        return [record for record in records if all(map(os.path.isfile, _files(record)))]


def open_source(name: str, exif_rotation: bool = True) -> Source:
    """Open a dataset by its registered name.

    Args:
        exif_rotation: INPUT.EXIF_ROTATION.

    Raises:
        ValueError: there is none of that name.
    """
    require_registered(name)
    loaded = Loaded([], Findings(name))
    try:
        loaded = read_dataset(name)
    except AnnotationError as error:
        loaded.findings = error.findings
    except (AssertionError, LookupError, OSError, TypeError, ValueError) as error:
        loaded.findings.add("cannot-be-loaded", problem=f"cannot be loaded: {_message(error)}")
    metadata = MetadataCatalog.get(name)
    kind = _kind(metadata, loaded.records)
    classes = metadata.get("stuff_classes") if kind in ("panoptic", "semantic") else None
    meaning = Meaning(
        kind=kind,
        classes=list(classes or metadata.get("thing_classes") or []),
        sem_seg_labels=metadata.get("sem_seg_labels"),
        ignore_label=metadata.get("ignore_label", 255),
        exif_rotation=exif_rotation,
    )
    return Source(name, meaning, loaded)


def _files(record: Record) -> list[str]:
    """Return the files that a record names."""
    names = [value for key, value in record.items() if key.endswith("file_name")]
    return names + list(record.get("file_names", ()))


def _message(error: Exception) -> str:
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return (
        f"{text}" if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {text}"
    )


def _kind(metadata: Metadata, records: Sequence[Record]) -> Kind:
    first = records[0] if len(records) else {}
    evaluator = metadata.get("evaluator_type", "")
    if "file_names" in first or evaluator == "ytvis":
        return "video"
    if "pan_seg_file_name" in first or (not first and evaluator.endswith("panoptic_seg")):
        return "panoptic"
    return "instance" if "annotations" in first or evaluator == "coco" else "semantic"
