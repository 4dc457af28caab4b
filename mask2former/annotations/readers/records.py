"""Records in detectron2's format, as functions of others make them for datasets of their own."""

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode

from ...errors import UserError
from ...formats.json_files import read_json
from ...formats.rle import encode_masks
from ..findings import Findings
from ..parts.fields import flag, kind_of

Record = dict[str, Any]

_JSON = ("json_file", "panoptic_json")  # keys of metadata

# What a function of somebody else may fail with; a UserError says what is wrong by itself.
_FAILURES = (AssertionError, AttributeError, ImportError, LookupError, TypeError, ValueError)


def call(name: str, function: Callable[[], Any]) -> Any:
    """Return what a function that is registered for a dataset loads.

    Raises:
        OSError, UserError: as the function; a UserError also for what else goes wrong in it, and
            where it gives no sequence.
    """
    try:
        records = function()
    except UserError:
        raise
    except _FAILURES as error:
        _read_all_json(name)
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise UserError(
            f"{name}: the function that is registered for it fails: {type(error).__name__}: "
            f"{text}{_files_of(name)}"
        ) from error
    if isinstance(records, Mapping | str) or not hasattr(records, "__getitem__"):
        raise UserError(
            f"{name}: expected a list of records in detectron2's format from the function that is "
            f"registered for it, got {type(records).__name__}"
        )
    return records


def _read_all_json(name: str) -> None:
    """Read the json files that the metadata of a dataset name; raises as `read_json`."""
    known = MetadataCatalog.get(name).as_dict()
    paths = [known[key] for key in _JSON if os.path.isfile(known.get(key) or "")]
    folder = known.get("gt_dir")  # of Cityscapes, with a file for each image
    paths += sorted(glob.glob(os.path.join(glob.escape(folder), "*", "*.json"))) if folder else []
    for path in paths:
        read_json(path)


def _files_of(name: str) -> str:
    """Return the files that the metadata of a dataset name, for a message; "" for none."""
    known = MetadataCatalog.get(name).as_dict()
    paths = [os.fspath(known[key]) for key in (*_JSON, "gt_dir") if known.get(key)]
    return f" (it reads {', '.join(paths)})" if paths else ""


def check_records(name: str, records: Any, findings: Findings) -> Any:
    """Find records that are not of detectron2's format; flags of crowd are read as everywhere.

    Returns:
        the records; a copy of one where a flag is text or null, or where it has no annotations and
        others have.
    """
    if not len(records):
        findings.add("no-images", file=name)
    if not isinstance(records, list | tuple):  # a dataset of torch, which may be slow to read
        return records
    lists_objects = any("annotations" in r for r in records if isinstance(r, Mapping))
    checked = []
    for index, record in enumerate(records):
        problem = _problem(record)
        if problem:
            findings.add("record-form", f"record number {index}", file=name, problem=problem)
        else:
            known = (
                record
                if "annotations" in record or not lists_objects
                else {**record, "annotations": []}
            )
            checked.append(_with_flags(known, f"record number {index}", findings))
    return checked


def records_as_coco(name: str, records: Sequence[Record]) -> dict[str, Any]:
    """Return COCO instance json of records, for scoring.

    Args:
        name: its metadata have thing_classes and perhaps thing_dataset_id_to_contiguous_id.

    Raises:
        AnnotationError: records are not of detectron2's format.
        UserError: a record has no image_id.
    """
    findings = Findings(name)
    records = check_records(name, records, findings)
    findings.raise_refused()
    metadata = MetadataCatalog.get(name)
    mapping = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    ids = {index: key for key, index in mapping.items()}
    classes = enumerate(metadata.get("thing_classes") or ())
    content: dict[str, Any] = {
        "categories": [{"id": ids.get(i, i), "name": text} for i, text in classes],
        "images": [],
        "annotations": [],
    }
    for index, record in enumerate(records):
        if "image_id" not in record:
            raise UserError(f"{name}: record number {index} has no image_id, which scoring needs")
        keys = ("height", "width")
        image = {key: record[key] for key in keys if key in record}
        image |= {"id": record["image_id"], "file_name": os.fspath(record["file_name"])}
        content["images"].append(image)
        content["annotations"] += [
            _as_coco(entry, record["image_id"], ids) for entry in record.get("annotations", ())
        ]
    if not any("annotations" in record for record in records):
        del content["annotations"]
    return content


def _as_coco(entry: Mapping[str, Any], image_id: Any, ids: Mapping[int, Any]) -> dict[str, Any]:
    result = {key: entry[key] for key in ("id", "iscrowd", "area") if key in entry}
    category = int(entry["category_id"])
    result |= {"image_id": image_id, "category_id": ids.get(category, category)}
    mask = entry.get("segmentation")
    if isinstance(mask, np.ndarray):
        mask = encode_masks(mask[None] != 0)[0]
    elif isinstance(mask, list | tuple):
        mask = [part.tolist() if isinstance(part, np.ndarray) else part for part in mask]
    if mask is not None:
        result["segmentation"] = mask
    if "bbox" in entry:
        mode = entry.get("bbox_mode", BoxMode.XYWH_ABS)
        box = np.array(entry["bbox"], np.float64).tolist()
        result["bbox"] = BoxMode.convert(box, mode, BoxMode.XYWH_ABS)
    return result


def _problem(record: Any) -> str:
    """Return what keeps a record from use; "" for nothing."""
    if not isinstance(record, Mapping):
        return f"expected a dict, got {type(record).__name__}"
    path = record.get("file_name")
    if "file_names" not in record and not isinstance(path, str | os.PathLike):
        return f"file_name: expected a path, got {path!r}"
    for key in ("annotations", "segments_info"):
        entries = record.get(key, ())
        if not isinstance(entries, list | tuple):
            return f"{key}: expected a list, got {kind_of(entries)}"
        for entry in entries:
            if not isinstance(entry, Mapping):
                return f"{key}: expected a list of dicts, got {entry!r} in it"
            if not _is_whole(entry.get("category_id")):
                found = entry.get("category_id")
                return f"category_id: expected a whole number, from 0 on, got {found!r}"
    return ""


def _is_whole(value: Any) -> bool:
    is_float = isinstance(value, float) and value.is_integer()
    return is_float or (isinstance(value, Integral) and not isinstance(value, bool))


def _with_flags(record: Record, item: str, findings: Findings) -> Record:
    """Return a record whose flags of crowd are 0 or 1."""
    entries = record.get("annotations", ())
    if all(entry.get("iscrowd", 0) in (0, 1) for entry in entries):
        return record
    changed = []
    for entry in entries:
        value = entry.get("iscrowd", 0)
        read = flag(value)
        if read is None:
            findings.add("crowd-unclear", item, key="iscrowd", value=value)
        elif value not in (0, 1):
            findings.add("crowd-form", item, key="iscrowd", value=value, read=read)
        changed.append({**entry, "iscrowd": read or 0})
    return record | {"annotations": changed}
