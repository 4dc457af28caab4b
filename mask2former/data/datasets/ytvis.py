"""Video instance segmentation in the form of YouTube-VIS: its editions, OVIS, and the shapes clips.

Annotations stay as the json has them until a clip is sampled: a loaded dataset holds one
RLE string or polygon a frame and object, and no mask.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.data import MetadataCatalog

from ..categories import load_categories
from . import common

logger = logging.getLogger(__name__)

Record = dict[str, Any]

_PER_FRAME = ("bboxes", "segmentations", "areas")


def register_ytvis(root: str, lazily: bool = False) -> None:
    """Register ytvis_{2019,2021,2022}_{train,val,test}, ovis_{train,val,test}, shapes_video_*.

    Args:
        lazily: as for `catalog.add`.
    """
    unpack = "Unpack it there, see datasets/README.md"
    draw = f"Make it with: python datasets/prepare_shapes.py --video --output {root}"
    tables = {name: load_categories(name) for name in ("ytvis_2019", "ytvis_2021", "ovis")}
    shapes = [c for c in load_categories("shapes") if c["isthing"]]
    published = {"train": "train", "val": "valid", "test": "test"}
    drawn = {"train": "train", "val": "val"}
    clips = ("{}/JPEGImages", "{}.json")
    families = [
        ("ytvis_2019", tables["ytvis_2019"], published, *clips, unpack),
        ("ytvis_2021", tables["ytvis_2021"], published, *clips, unpack),
        ("ytvis_2022", tables["ytvis_2021"], published, *clips, unpack),
        ("ovis", tables["ovis"], published, "{}", "annotations_{}.json", unpack),
        ("shapes_video", shapes, drawn, *clips, draw),
    ]
    for family, categories, splits, frames, file, hint in families:
        for split, name in splits.items():
            register_videos(
                f"{family}_{split}",
                categories,
                image_root=os.path.join(root, family, frames.format(name)),
                json_file=os.path.join(root, family, file.format(name)),
                hint=hint,
                lazily=lazily,
            )


def register_videos(
    name: str,
    categories: Sequence[common.Category],
    *,
    image_root: str,
    json_file: str,
    hint: str,
    lazily: bool = False,
) -> None:
    """Register a dataset in the form of YouTube-VIS; as `register_instances`.

    Args:
        lazily: as for `catalog.add`.
    """
    common.add(
        name,
        lambda: load_ytvis(json_file, image_root, name, hint),
        lazily=lazily,
        json_file=json_file,
        image_root=image_root,
        evaluator_type="ytvis",
        thing_classes=[c["name"] for c in categories],
        thing_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(categories)},
        thing_colors=[c["color"] for c in categories],
    )


def load_ytvis(
    json_file: str,
    image_root: str,
    name: str,
    hint: str = "",
    report: Callable[[str], None] = common.refuse,
) -> list[Record]:
    """Read a json file in the form of YouTube-VIS.

    Args:
        name: of the registered dataset, whose thing_dataset_id_to_contiguous_id is used.
        hint: what the message about a missing file says on how to make it.
        report: called with each problem; where it returns, an unknown category becomes None, and
            videos and objects that cannot be used are left out.

    Returns:
        One record a video: file_names (T paths), height, width, length (T), video_id, and
        annotations, one dict an object: id, category_id (contiguous), iscrowd, and the lists
        bboxes (XYWH in pixels), segmentations (RLE or polygons, as in the file) and areas, of T
        entries each, None where the object is not visible. A file without annotations, as
        those of test sets, gives empty lists.

    Raises:
        FileNotFoundError: the json or the folder of the frames is missing.
        ValueError: the file does not fit the form or the classes; names the video or annotation.
    """
    content = common.read_json(json_file, hint)
    common.require(image_root, hint)
    classes = _match_classes(content, name, json_file, report)
    records: dict[Any, Record] = {}
    for video in content["videos"]:
        if video["id"] in records:
            report(f"{json_file}: there are two videos with the id {video['id']}")
        records[video["id"]] = _video_record(video, image_root, json_file, report)
    for annotation in content.get("annotations") or ():
        record = records.get(annotation["video_id"])
        where = f"{json_file}: annotation {annotation['id']}"
        if record is None:
            report(f"{where} is of video {annotation['video_id']}, which does not exist")
            continue
        if annotation["category_id"] not in classes:
            report(
                f"{where} has the category id {annotation['category_id']}, "
                f"which is none of {sorted(classes)}"
            )
        if _has_entries(annotation, record["length"], where, report):
            record["annotations"].append(_object(annotation, record["length"], classes))
    logger.info("Read %d videos from %s", len(records), json_file)
    return [record for record in records.values() if record["file_names"]]


def _match_classes(
    content: Mapping[str, Any], name: str, json_file: str, report: Callable[[str], None]
) -> dict[int, int]:
    """Return the contiguous id of each category id; the json has to know the same ids."""
    metadata = MetadataCatalog.get(name)
    classes: dict[int, int] = metadata.thing_dataset_id_to_contiguous_id
    found = {c["id"]: c["name"] for c in content["categories"]}
    if found.keys() != classes.keys():
        report(
            f"{json_file} has {len(found)} category ids, {sorted(found)}, but {name} is "
            f"registered with {len(classes)}, {sorted(classes)}"
        )
    named = {i: metadata.thing_classes[c] for i, c in classes.items()}
    other = {i: n for i, n in found.items() if named.get(i, n) != n}
    if other:
        logger.warning("%s names some classes differently than %s: %s", json_file, name, other)
    return classes


def _video_record(
    video: Mapping[str, Any], image_root: str, json_file: str, report: Callable[[str], None]
) -> Record:
    names = video["file_names"]
    length = video.get("length", len(names))
    if len(names) != length or not names:
        report(
            f"{json_file}: video {video['id']} has {len(names)} file names and the length {length}"
        )
    size = {key: video[key] for key in ("height", "width") if key in video}
    if len(size) < 2:
        report(f"{json_file}: video {video['id']} has no height or no width")
    return size | {
        "file_names": [os.path.join(image_root, file_name) for file_name in names],
        "length": len(names),
        "video_id": video["id"],
        "annotations": [],
    }


def _has_entries(
    annotation: Mapping[str, Any], length: int, where: str, report: Callable[[str], None]
) -> bool:
    """Return whether an object has one entry for each frame wherever it has any."""
    counts = {key: len(annotation[key]) for key in _PER_FRAME if annotation.get(key) is not None}
    wrong = {key: count for key, count in counts.items() if count != length}
    for key, count in wrong.items():
        report(f"{where}: {key} has {count} entries for {length} frames")
    return not wrong


def _object(
    annotation: Mapping[str, Any], length: int, classes: Mapping[int, int]
) -> dict[str, Any]:
    return {
        "id": annotation["id"],
        "category_id": classes.get(annotation["category_id"]),
        "iscrowd": annotation.get("iscrowd", 0),
        **{key: annotation.get(key) or [None] * length for key in _PER_FRAME},
    }
