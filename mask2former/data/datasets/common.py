"""What the registrations of all datasets share: adding names once, metadata, and loading."""

import colorsys
import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_sem_seg
from detectron2.data.datasets.coco import load_coco_json

from ...formats import json_files

Category = Mapping[str, Any]
Record = dict[str, Any]

LONG_SPLITS = {"train": "training", "val": "validation"}  # how folders call them


def add(name: str, load: Callable[[], list[Record]], **metadata: Any) -> None:
    """Register a dataset in detectron2's catalogs, unless ``name`` is registered.

    Nothing is read before the dataset is asked for.
    """
    if name not in DatasetCatalog:
        DatasetCatalog.register(name, load)
    fill_metadata(name, **metadata)


def fill_metadata(name: str, **metadata: Any) -> None:
    """Add the entries that the metadata of ``name`` lacks; those that it has stay."""
    known = MetadataCatalog.get(name)
    present = known.as_dict()
    known.set(**{key: value for key, value in metadata.items() if key not in present})


def require_registered(name: str) -> None:
    """Raise a ValueError that names the nearest ones, unless there is a dataset of that name."""
    known = DatasetCatalog.list()
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, 5, 0.4)) or "none"
        raise ValueError(f"there is no dataset named {name!r}; near names: {near}")


def require(path: str, hint: str) -> str:
    """Return ``path``, which has to exist.

    Raises:
        FileNotFoundError: with ``hint``, which says how to make it.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing. {hint}")
    return path


def refuse(problem: str) -> None:
    """Raise a ValueError; what loaders do about a problem unless they are asked to report it."""
    raise ValueError(problem)


def read_json(path: str, hint: str) -> dict[str, Any]:
    """Read an annotation file.

    Raises:
        FileNotFoundError: with ``hint``, which says how to make it.
        ValueError: the file is no json object.
    """
    content = json_files.read_json(require(path, hint))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a json {type(content).__name__}, expected an object")
    return content


def hint(script: str) -> str:
    """Return what messages say about a missing file that datasets/prepare_``script``.py makes."""
    return f"Make it with: python datasets/prepare_{script}.py (datasets/README.md shows the tree)"


def palette(count: int) -> list[list[int]]:
    """``count`` colours that neighbours in the list tell apart, RGB in 0..255."""
    golden = (5**0.5 - 1) / 2  # steps of hue that never come back to the same place
    tones = (
        colorsys.hsv_to_rgb(
            index * golden % 1, (0.85, 0.55)[index % 2], (0.95, 0.75, 0.6)[index % 3]
        )
        for index in range(count)
    )
    return [[round(255 * channel) for channel in tone] for tone in tones]


def semantic(
    name: str,
    *,
    image_root: str,
    sem_seg_root: str,
    hint: str,
    gt_ext: str = "png",
    ignore_label: int = 255,
    **metadata: Any,
) -> None:
    """Register two folders, of images and of label maps under the same names."""

    def load() -> list[Record]:
        for folder in (image_root, sem_seg_root):
            require(folder, hint)
            if not any(os.scandir(folder)):
                raise FileNotFoundError(f"{folder} is empty. {hint}")
        return load_sem_seg(sem_seg_root, image_root, gt_ext=gt_ext, image_ext="jpg")

    add(
        name,
        load,
        image_root=image_root,
        sem_seg_root=sem_seg_root,
        evaluator_type="sem_seg",
        ignore_label=ignore_label,
        **metadata,
    )


def instances(
    name: str,
    categories: Sequence[Category],
    *,
    image_root: str,
    json_file: str,
    hint: str,
    **metadata: Any,
) -> None:
    """Register a dataset in COCO's instance form.

    Contiguous ids are positions in ``categories``.
    """

    def load() -> list[Record]:
        require(image_root, hint)
        require(json_file, hint)
        try:  # the ids are for messages about single annotations
            return load_coco_json(json_file, image_root, name, ["id"])
        except (AssertionError, KeyError) as error:
            raise ValueError(f"{json_file}: {error.args[0]}") from error

    add(
        name,
        load,
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=[c["name"] for c in categories],
        thing_dataset_id_to_contiguous_id={c["id"]: i for i, c in enumerate(categories)},
        **metadata,
    )
