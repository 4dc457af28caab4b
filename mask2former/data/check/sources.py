"""Open datasets for checking: what training would get of them, and what was found on the way."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog

from ...annotations.findings import AnnotationError, Findings
from ...errors import UserError
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


def open_source(name: str, cfg: CfgNode | None = None) -> Source:
    """Open a dataset by its registered name.

    Args:
        cfg: whose INPUT.EXIF_ROTATION counts, and NUM_CLASSES where nobody names the classes.

    Raises:
        UserError: there is none of that name.
    """
    require_registered(name)
    loaded = Loaded([], Findings(name))
    try:
        loaded = read_dataset(name)
    except AnnotationError as error:
        loaded.findings = error.findings
    except (OSError, UserError) as error:
        loaded.findings.add("cannot-be-loaded", problem=f"cannot be loaded: {error}")
    metadata = MetadataCatalog.get(name)
    kind = _kind(metadata, loaded.records)
    classes = metadata.get("stuff_classes") if kind in ("panoptic", "semantic") else None
    names = list(classes or metadata.get("thing_classes") or [])
    if not names and cfg is not None:
        names = [f"class {i}" for i in range(cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES)]
    meaning = Meaning(
        kind=kind,
        classes=names,
        sem_seg_labels=metadata.get("sem_seg_labels"),
        ignore_label=metadata.get("ignore_label", 255),
        label_classes=metadata.get("stuff_classes"),
        exif_rotation=cfg is None or cfg.INPUT.EXIF_ROTATION,
    )
    return Source(name, meaning, loaded)


def _files(record: Record) -> list[str]:
    """Return the files that a record names."""
    names = [value for key, value in record.items() if key.endswith("file_name")]
    return names + list(record.get("file_names", ()))


def _kind(metadata: Metadata, records: Sequence[Record]) -> Kind:
    first = records[0] if len(records) else {}
    evaluator = metadata.get("evaluator_type", "")
    if "file_names" in first or evaluator == "ytvis":
        return "video"
    if "pan_seg_file_name" in first or (not first and evaluator.endswith("panoptic_seg")):
        return "panoptic"
    return "instance" if "annotations" in first or evaluator == "coco" else "semantic"
