"""What the registrations of all datasets share: adding names once, metadata, and loading."""

import difflib
import logging
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

from detectron2.data import MetadataCatalog

from ...annotations.categories import palette as palette
from ...formats import json_files
from ...formats.names import files_below, map_suffix
from ...formats.pillow import IMAGE_SUFFIXES
from . import catalog

logger = logging.getLogger(__name__)

Category = Mapping[str, Any]
Record = dict[str, Any]

LONG_SPLITS = {"train": "training", "val": "validation"}  # how folders call them
_JPEG = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}  # beside maps, mostly previews of them


def add(
    name: str, load: Callable[[], list[Record]], *, lazily: bool = False, **metadata: Any
) -> None:
    """Register a dataset in detectron2's catalogs, where it gives way to those of others.

    A name that is registered already is left as it is. Nothing is read before the dataset is
    asked for.

    Args:
        lazily: as for `catalog.add`.
    """
    catalog.add(name, load, metadata, lazily=lazily)


def fill_metadata(name: str, **metadata: Any) -> None:
    """Add the entries that the metadata of ``name`` lacks; those that it has stay."""
    known = MetadataCatalog.get(name)
    present = known.as_dict()
    known.set(**{key: value for key, value in metadata.items() if key not in present})


def require_registered(name: str) -> None:
    """Raise a ValueError that names the nearest ones, unless there is a dataset of that name."""
    catalog.take(name)
    known = catalog.names()
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


def semantic(
    name: str,
    *,
    image_root: str,
    sem_seg_root: str,
    hint: str,
    ignore_label: int = 255,
    **metadata: Any,
) -> None:
    """Register two folders, of images and of label maps, whose files match by name."""
    add(
        name,
        lambda: load_label_maps(image_root, sem_seg_root, hint),
        image_root=image_root,
        sem_seg_root=sem_seg_root,
        evaluator_type="sem_seg",
        ignore_label=ignore_label,
        **metadata,
    )


def load_label_maps(image_root: str, sem_seg_root: str, hint: str) -> list[Record]:
    """Return one record an image: file_name and sem_seg_file_name.

    Subfolders, and links to them, are searched too. An image without a label map, or the other way
    round, is left out with a line in the log.

    Raises:
        FileNotFoundError: a folder is missing, or no file of one has its match in the other.
        ValueError: two files of a folder have the same name but for their suffix.
    """
    images, labels = _by_stem(image_root, hint), _by_stem(sem_seg_root, hint, _JPEG)
    matched = sorted(images.keys() & labels.keys())
    suffix, count = map_suffix(images.keys() - labels.keys(), labels.keys() - images.keys())
    named = f"{count} label maps have the name of an image with {suffix!r} behind it: rename them. "
    hint = named * (count > 0) + hint
    if not matched:
        raise FileNotFoundError(
            f"none of the {len(images)} images in {image_root} has a label map of its name among "
            f"the {len(labels)} in {sem_seg_root}. {hint}"
        )
    alone = sorted(images.keys() ^ labels.keys())
    if alone:
        logger.warning(
            "%d files of %s and %s have no match in the other folder and are left out: %s. %s",
            len(alone), image_root, sem_seg_root, ", ".join(alone[:5]), named * (count > 0),
        )  # fmt: skip
    return [{"file_name": images[stem], "sem_seg_file_name": labels[stem]} for stem in matched]


def _by_stem(root: str, hint: str, second: Collection[str] = ()) -> dict[str, str]:
    """Return images by their path below ``root`` without suffix.

    Args:
        second: suffixes of files that count only where no other has the name.
    """
    files: dict[str, str] = {}
    found = files_below(require(root, hint))
    for path in sorted(found, key=lambda path: path.suffix.lower() in second):
        suffix, stem = path.suffix.lower(), os.fspath(path.relative_to(root).with_suffix(""))
        if suffix not in IMAGE_SUFFIXES or (suffix in second and stem in files):
            continue
        if stem in files:
            raise ValueError(f"{files[stem]} and {path} have the same name: keep one of them")
        files[stem] = os.fspath(path)
    return files
