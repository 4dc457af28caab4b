"""Video instance segmentation in the form of YouTube-VIS: its editions, OVIS, and the shapes clips.

Masks stay as the json has them until a clip is sampled: a loaded dataset holds one RLE string or
polygon a frame and object, and no bitmap.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.data import MetadataCatalog

from ...annotations.parts.documents import Annotations
from ...annotations.readers.videos import PER_FRAME
from ...annotations.registered import read_registered_videos
from ..categories import load_categories
from . import common
from .instances import count_objects, fill_classes
from .loading import FileLoader, Loaded, Record


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
        VideoLoader(name, hint),
        lazily=lazily,
        json_file=json_file,
        image_root=image_root,
        evaluator_type="ytvis",
        thing_classes=[c["name"] for c in categories],
        thing_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(categories)},
        thing_colors=[c["color"] for c in categories],
    )


class VideoLoader(FileLoader):
    """Load a dataset of videos whose metadata have json_file and image_root.

    A record has file_names (T paths), height and width where they are known, length (T), video_id,
    and annotations, one dict an object: id, category_id (contiguous), iscrowd, and the lists bboxes
    (XYWH in pixels), segmentations (RLE or polygons) and areas, of T entries each, None where the
    object is not visible. A file without annotations, as those of test sets, gives empty lists.
    """

    def _read(self) -> Loaded:
        metadata = MetadataCatalog.get(self._name)
        common.require(metadata.json_file, self._hint)
        common.require(metadata.image_root, self._hint)
        annotations = read_registered_videos(self._name, find_files=True)
        ids = _match_classes(self._name, annotations)
        records = _to_records(annotations, ids, metadata.image_root)
        return Loaded(
            records,
            annotations.findings,
            count_objects(annotations, [_seen(record) for record in records], ids),
            lambda: annotations.content,
        )


def _match_classes(name: str, annotations: Annotations) -> Mapping[Any, int]:
    """Return the contiguous number of each category id by the metadata of a dataset.

    A dataset whose metadata do not say gets those of the file. Where the file has other ids than
    the metadata, or other names, that is a finding.
    """
    found = {c["id"]: c["name"] for c in annotations.categories}
    fill_classes(name, found)
    metadata, findings = MetadataCatalog.get(name), annotations.findings
    ids: dict[Any, int] = metadata.thing_dataset_id_to_contiguous_id
    known = {key: metadata.thing_classes[i] for key, i in ids.items()}
    differing = {k: (found.get(k), known.get(k)) for k in found | known}
    text = ", ".join(f"{key}: {a!r} and {b!r}" for key, (a, b) in differing.items() if a != b)
    if text and not findings.of("refused"):
        code = "classes-differ" if found.keys() != known.keys() else "classes-named-otherwise"
        findings.add(code, name=name, classes=f"{text:.500}")
    return ids


def _seen(record: Record) -> Record:
    """Return a record without the objects that no frame shows, which nothing is learnt from."""
    return record | {"annotations": [a for a in record["annotations"] if any(a["segmentations"])]}


def _to_records(annotations: Annotations, ids: Mapping[Any, int], image_root: str) -> list[Record]:
    records = {
        video["id"]: {key: video[key] for key in ("height", "width") if key in video}
        | {
            "file_names": [os.path.join(image_root, n) for n in video.get("file_names", ())],
            "length": video["length"],
            "video_id": video["id"],
            "annotations": [],
        }
        for video in annotations.content["videos"]
    }
    for entry in annotations.content.get("annotations", ()):
        record = records[entry["video_id"]]
        absent = [None] * record["length"]
        record["annotations"].append(
            {
                "category_id": ids.get(entry["category_id"]),
                "iscrowd": entry["iscrowd"],
                **({"id": entry["id"]} if "id" in entry else {}),
                **{key: entry.get(key) or absent for key in PER_FRAME},
            }
        )
    return [record for record in records.values() if record["file_names"]]
