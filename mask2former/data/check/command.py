"""Check a dataset before training does: ``python -m mask2former.data.check CONFIG_OR_NAME``.

It reads every file, says what is irregular and what becomes of it, with a code that
docs/annotations.md explains, counts classes and sizes, and draws a contact sheet. It ends with exit
code 1 where training would fail, else with 0.

Examples:

    python -m mask2former.data.check coco_2017_val
    python -m mask2former.data.check my_config.yaml --output checked
    python -m mask2former.data.check coco_2017_val --fix cleaned.json
    python -m mask2former.data.check mine DATASETS.CUSTOM "[{'name': 'mine', 'task': 'instance', \\
        'image_root': 'photos', 'annotations': 'photos.json'}]"
"""

import argparse
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ...annotations.findings import AnnotationError, Findings
from ...annotations.readers.label_maps import judge_labels
from ...config import get_config, load_config
from ...config.loading import merge_opts
from ...errors import UserError
from ...formats.images import read_annotated
from ...formats.json_files import write_json
from ...formats.pillow import set_max_pixels
from ...painting import ContactSheet, Region, paint
from ..agreement.from_config import register_custom
from ..agreement.num_classes import check_num_classes
from ..agreement.object_counts import compare_with_detections, compare_with_queries
from ..datasets.common import palette, require_registered
from ..loaders import build_mapper, check_annotations
from ..mappers import DatasetMapper
from ..preparation.common import map_parallel
from .records import Meaning, Record, Tally, check_record
from .report import Report, finding_lines
from .sources import Source, open_source

OUTPUT = Path("output", "check")
_CELL = (480, 640)  # largest size of a picture, H, W in pixels


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = vars(_parser().parse_args(arguments))
    # What is wrong is reported here, and the loaders' own lines would tear the progress bar.
    logging.disable(logging.WARNING)
    as_json = options.pop("json")
    try:
        cfg, names = _read_data(options.pop("data"), options.pop("opts"))
        set_max_pixels(cfg.INPUT.MAX_PIXELS if cfg is not None else 0)
        if options["fix"] and len(names) != 1:
            raise UserError(f"--fix writes one dataset, got {', '.join(names)}; name one of them")
        reports = [check_dataset(name, cfg=cfg, quiet=as_json, **options) for name in names]
    except AnnotationError as error:
        reports = [Report(error.findings.file, findings=error.findings)]
        if not as_json:
            print("\n".join(finding_lines(error.findings, options["limit"])))
    except (OSError, UserError) as error:
        findings = Findings("")
        findings.add("cannot-be-loaded", problem=str(error))
        reports = [Report("", findings=findings)]
        if not as_json:
            print(f"FAILS  {error}")
    finally:
        logging.disable(logging.NOTSET)
    if as_json:
        print(json.dumps([report.as_json() for report in reports], indent=1))
    return 0 if all(report.sound for report in reports) else 1


def check_dataset(
    name: str,
    *,
    cfg: CfgNode | None = None,
    output: Path = OUTPUT,
    samples: int = 16,
    workers: int = 1,
    limit: int = 5,
    fix: Path | None = None,
    quiet: bool = False,
) -> Report:
    """Check a registered dataset and print what it finds.

    Args:
        cfg: a config that the dataset has to fit; None for the dataset alone.
        output: folder in which the contact sheet gets a folder called after the dataset.
        samples: pictures on the sheet; 0 for no sheet.
        workers: processes that read.
        limit: findings to print of each code.
        fix: json file to write what training sees to; nothing may be there yet.
        quiet: print nothing.

    Raises:
        UserError: there is no dataset of that name, or nothing that ``fix`` can write.
        FileExistsError: there is a file at ``fix``.
    """
    source = open_source(name, cfg)
    total = Tally()
    total.findings.file = source.loaded.findings.file or name
    total.findings.update(source.loaded.findings)
    sound, empty = _read_all(name, source, total, workers)
    judge_labels(total.labels, total.label_maps, source.meaning.of_labels, total.findings)
    inventory = source.loaded.inventory
    if inventory and (cfg is None or name in cfg.DATASETS.TRAIN):
        with suppress(AnnotationError):  # it adds the finding itself
            inventory.require_objects(total.findings)
    if cfg is not None:
        _check_config(cfg, name, source, sound, total.findings)
    report = Report(name, source.meaning, total, total.findings, empty, len(source.records))
    report.inventory = inventory
    if not quiet:
        print("\n".join(report.lines(limit)))
    if sound and samples:
        chosen = sound[:: max(1, len(sound) // samples)][:samples]
        page = _write_sheet(output, source, chosen)
        if not quiet:
            print(f"  pictures: {page}")
    if fix:
        _write_fixed(fix, source)
    return report


def _read_all(name: str, source: Source, total: Tally, workers: int) -> tuple[list[Record], int]:
    """Add up what all records hold; return those that train, and how many are empty."""
    sound, empty = [], 0
    check = partial(check_record, meaning=source.meaning)
    tallies = map_parallel(check, source.records, workers=workers, label=name)
    for record, tally in zip(source.records, tallies):
        total.add(tally)
        empty += not tally.classes
        if not tally.fails and _has_known_categories(record):
            sound.append(record)
    return sound, empty


def _write_fixed(path: Path, source: Source) -> None:
    """Write what training sees of a dataset as json of its form."""
    if source.loaded.content is None or source.loaded.findings.of("refused"):
        raise UserError(
            f"--fix: {source.name} cannot be written, as its annotations are refused or are no json"
        )
    if path.exists():
        raise FileExistsError(f"--fix: {path} exists; name a new file")
    write_json(path, source.loaded.content())


def _has_known_categories(record: Record) -> bool:
    items = (*record.get("annotations", ()), *record.get("segments_info", ()))
    return all(item["category_id"] is not None for item in items)


def _check_config(
    cfg: CfgNode, name: str, source: Source, sound: Sequence[Record], findings: Findings
) -> None:
    """Find whether the number of classes and the mapper of a config fit the dataset."""
    try:
        check_num_classes(cfg, [name])
        if name in cfg.DATASETS.TRAIN and sound:
            alone = len(cfg.DATASETS.TRAIN) == 1  # others may have the objects
            if alone and "annotations" in sound[0] and not findings.of("refused"):
                check_annotations(cfg, list(sound))
            build_mapper(cfg, is_train=True)(sound[0])
    except (LookupError, OSError, UserError) as error:
        findings.add("config", file="config", problem=error)
    if name in cfg.DATASETS.TRAIN:
        compare_with_queries(cfg, source.records, findings)
    if name in cfg.DATASETS.TEST:
        compare_with_detections(cfg, source.records, findings)


def _write_sheet(folder: Path, source: Source, records: Sequence[Record]) -> Path:
    """Write a page with a row for each sound record: the photo, and it under masks and names.

    Returns:
        The page, in a folder that is called after the dataset.
    """
    meaning = source.meaning
    if meaning.kind == "video":
        records = [_middle_frame(record) for record in records]
        meaning = replace(meaning, kind="instance")
    sheet = ContactSheet(folder / source.name, source.name, ("photo", "annotations"))
    for record in records:
        image, regions = _drawing(record, meaning)
        pictures = {"photo": image, "annotations": paint(image, regions)}
        sheet.add(Path(record["file_name"]).stem, pictures)
    return sheet.write(f"{len(records)} records, as training gets them")


def _drawing(record: Record, meaning: Meaning) -> tuple[np.ndarray, Iterator[Region]]:
    """Return the photo of a record, (H, W, 3) in RGB and no larger than _CELL, and its regions."""
    turns = meaning.exif_rotation
    photo = read_annotated(record, record["file_name"], exif_rotation=turns)
    height, width = photo.shape[:2]
    scale = min(_CELL[0] / height, _CELL[1] / width, 1)
    mapper = DatasetMapper(
        target=meaning.kind,
        augmentations=[T.Resize((max(1, round(height * scale)), max(1, round(width * scale))))],
        image_format="RGB",
        exif_rotation=turns,
        ignore_label=meaning.ignore_label if meaning.sem_seg_labels is None else 65535,
        sem_seg_labels=meaning.sem_seg_labels,
    )
    mapped = mapper(record)
    targets = mapped["instances"]
    masks, labels = targets.gt_masks.numpy(), targets.gt_classes.tolist()
    by_index = meaning.kind == "instance"  # objects of one class should stay apart
    colours = palette(max(len(masks) if by_index else len(meaning.classes), 1))
    regions = (
        Region(mask, np.array(colours[i if by_index else label]) / 255, meaning.classes[label])
        for i, (mask, label) in enumerate(zip(masks, labels))
    )
    return mapped["image"].permute(1, 2, 0).numpy(), regions


def _middle_frame(record: Record) -> Record:
    """Return the middle frame of a video as a record of an image."""
    frame = len(record["file_names"]) // 2
    annotations = [
        {"id": a["id"], "category_id": a["category_id"], "segmentation": a["segmentations"][frame]}
        for a in record["annotations"]
        if a["segmentations"][frame]
    ]
    return {"file_name": record["file_names"][frame], "annotations": annotations}


def _read_data(data: str, opts: Sequence[str]) -> tuple[CfgNode | None, list[str]]:
    """Return the config, where ``data`` is one, and the names of the datasets to check."""
    if data.endswith((".yaml", ".yml")):
        cfg = load_config(data, opts)
        register_custom(cfg)
        return cfg, list(dict.fromkeys((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST)))
    cfg = get_config()
    merge_opts(cfg, opts)
    register_custom(cfg)
    try:
        require_registered(data)
    except UserError as error:
        raise UserError(f"{data!r} is no config file (.yaml), and {error}") from error
    return None, [data]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mask2former.data.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", metavar="CONFIG_OR_NAME", help="yaml file, or a dataset's name")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys to set")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of the pictures")
    parser.add_argument("--samples", type=int, default=16, help="pictures to draw; 0 for none")
    parser.add_argument("--workers", type=int, default=1, help="processes that read")
    parser.add_argument("--limit", type=int, default=5, help="findings of each code to print")
    parser.add_argument("--json", action="store_true", help="print the findings for machines")
    parser.add_argument("--fix", type=Path, metavar="OUT.json", help="write what training sees")
    return parser
