"""Check a dataset before training does: ``python -m mask2former.data.check CONFIG_OR_NAME``.

It reads every file, says what is wrong with the names of the files, counts classes and sizes, and
draws a contact sheet. It ends with exit code 1 where training would fail, else with 0.

Examples:

    python -m mask2former.data.check coco_2017_val
    python -m mask2former.data.check my_config.yaml --output checked
    python -m mask2former.data.check mine DATASETS.CUSTOM "[{'name': 'mine', 'task': 'instance', \\
        'image_root': 'photos', 'annotations': 'photos.json'}]"
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ...config import get_config, load_config
from ...config.loading import merge_opts
from ...formats.images import read_image
from ...painting import ContactSheet, Region, paint
from ..datasets.common import palette, require_registered
from ..datasets.custom import register_custom
from ..loaders import build_mapper
from ..mappers import DatasetMapper
from ..num_classes import check_num_classes
from ..preparation.common import map_parallel
from .records import SCALES, Finding, Meaning, Record, Tally, check_record
from .sources import Source, open_source

OUTPUT = Path("output", "check")
_CELL = (480, 640)  # largest size of a picture, H, W in pixels


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options = vars(_parser().parse_args(arguments))
    # What is wrong is reported here, and the loaders' own lines would tear the progress bar.
    logging.disable(logging.WARNING)
    try:
        cfg, names = _read_data(options.pop("data"), options.pop("opts"))
        sound = [check_dataset(name, cfg=cfg, **options) for name in names]
    except (OSError, ValueError) as error:
        print(f"FAILS  {error}")
        return 1
    finally:
        logging.disable(logging.NOTSET)
    return 0 if all(sound) else 1


def check_dataset(
    name: str,
    *,
    cfg: CfgNode | None = None,
    output: Path = OUTPUT,
    samples: int = 16,
    workers: int = 1,
    limit: int = 20,
) -> bool:
    """Check a registered dataset and print what it finds.

    Args:
        cfg: a config that the dataset has to fit; None for the dataset alone.
        output: folder in which the contact sheet gets a folder called after the dataset.
        samples: pictures on the sheet; 0 for no sheet.
        workers: processes that read.
        limit: findings to print, of those that fail and of the others.

    Returns:
        Whether training would not fail.

    Raises:
        ValueError: there is no dataset of that name.
    """
    source = open_source(name)
    total = Tally(list(source.findings))
    sound, empty = [], 0
    check = partial(check_record, meaning=source.meaning)
    tallies = map_parallel(check, source.records, workers=workers, label=name)
    for record, tally in zip(source.records, tallies):
        total.add(tally)
        empty += not tally.classes
        if not tally.fails and _has_known_categories(record):
            sound.append(record)
    if cfg is not None:
        total.findings += _check_config(cfg, name, sound)
    print("\n".join(_report(source, total, empty, limit)))
    if sound and samples:
        chosen = sound[:: max(1, len(sound) // samples)][:samples]
        print(f"  pictures: {_write_sheet(output, source, chosen)}")
    return not total.fails


def _has_known_categories(record: Record) -> bool:
    items = (*record.get("annotations", ()), *record.get("segments_info", ()))
    return all(item["category_id"] is not None for item in items)


def _check_config(cfg: CfgNode, name: str, records: Sequence[Record]) -> list[Finding]:
    """Return whether the number of classes and the mapper of a config fit the dataset."""
    try:
        check_num_classes(cfg, [name])
        if name in cfg.DATASETS.TRAIN and records:
            build_mapper(cfg, is_train=True)(records[0])
    except (LookupError, OSError, ValueError) as error:
        return [Finding(True, "config", str(error))]
    return []


def _report(source: Source, total: Tally, empty: int, limit: int) -> Iterator[str]:
    fails = [finding for finding in total.findings if finding.fails]
    others = [finding for finding in total.findings if not finding.fails]
    photos, objects = sum(total.sizes.values()), sum(total.classes.values())
    yield f"{source.name}: {source.meaning.kind}, {len(source.meaning.classes)} classes"
    yield f"  {photos} images, {objects} objects or regions, {total.crowd} crowd regions"
    yield f"  {empty} of {len(source.records)} records without any object"
    yield f"  findings: {len(fails)} on which training fails, {len(others)} others"
    for title, findings in (("FAILS", fails), ("note", others)):
        for finding in findings[:limit]:
            yield f"  {title:<5}  {finding.where}: {finding.text}"
        if len(findings) > limit:
            yield f"  ...    and {len(findings) - limit} more (--limit shows more)"
    if not photos:
        return
    sizes = total.sizes.most_common(5)
    listed = ", ".join(f"{width}x{height} ({count})" for (height, width), count in sizes)
    more = f" and {len(total.sizes) - 5} other sizes" if len(total.sizes) > 5 else ""
    yield f"  image sizes: {listed or 'none'}{more}"
    scales = ", ".join(f"{total.scales[name]} {name}" for name, _ in SCALES)
    yield f"  object sizes: {scales} (limits 32x32 and 96x96 pixels)"
    yield "  classes:"
    yield from _histogram(source, total)


def _histogram(source: Source, total: Tally) -> Iterator[str]:
    """Yield a line with a bar for each class that occurs, and a list of the others."""
    highest = max(total.classes.values(), default=1)
    names = dict(enumerate(source.meaning.classes))
    for category, count in total.classes.most_common():
        bar = "#" * max(1, round(40 * count / highest))
        yield f"    {names.get(category, category)!s:<24.24} {count:>8} {bar}"
    absent = [name for category, name in names.items() if category not in total.classes]
    if absent:
        more = f" and {len(absent) - 12} others" if len(absent) > 12 else ""
        yield f"    without any: {', '.join(absent[:12])}{more}"


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
    height, width = read_image(record["file_name"]).shape[:2]
    scale = min(_CELL[0] / height, _CELL[1] / width, 1)
    mapper = DatasetMapper(
        target=meaning.kind,
        augmentations=[T.Resize((max(1, round(height * scale)), max(1, round(width * scale))))],
        image_format="RGB",
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
    except ValueError as error:
        raise ValueError(f"{data!r} is no config file (.yaml), and {error}") from error
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
    parser.add_argument("--limit", type=int, default=20, help="findings of a kind to print")
    return parser
