"""Custom datasets, registered by a call; from_config.py has those of DATASETS.CUSTOM.

They keep their standard forms: COCO instance json, COCO panoptic json with PNGs, folders of label
maps, YouTube-VIS json. Classes and their number are taken from the data.
"""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detectron2.data import DatasetCatalog

from ...annotations.parts.documents import Annotations
from ...annotations.readers.instances import read_instances
from ...annotations.readers.panoptic import read_panoptic
from ...annotations.readers.videos import read_videos
from ...errors import UserError
from ...formats.class_names import class_texts
from . import catalog, common
from .instances import register_instances
from .panoptic import panoptic_metadata, register_panoptic
from .semantic import register_semantic
from .ytvis import register_videos

ClassNames = Sequence[str] | Mapping[int | str, str]

PATHS = ("image_root", "annotations", "panoptic_root", "sem_seg_root")

# Registered here, with what they were registered with.
_REGISTERED: dict[str, dict[str, Any]] = {}

_HINT = "Check the paths that the dataset was registered with (DATASETS.CUSTOM)."


def register(
    name: str,
    task: str,
    *,
    image_root: str,
    annotations: str | None = None,
    panoptic_root: str | None = None,
    sem_seg_root: str | None = None,
    classes: ClassNames | None = None,
    ignore_label: int = 255,
    boxes_as_masks: bool = False,
) -> None:
    """Make a dataset known under a name, for DATASETS.TRAIN and DATASETS.TEST.

    Args:
        name: not taken by another dataset; the same call again does nothing.
        task: what the annotations are: "instance" (COCO json), "panoptic" (COCO panoptic json and
            PNGs), "sem_seg" (a folder of label maps), or "video" (YouTube-VIS json).
        image_root: folder of the images, or of the folders of frames.
        annotations: the json file; for all tasks but sem_seg.
        panoptic_root: folder of the PNGs; for panoptic.
        sem_seg_root: folder of one-channel label maps under the names of the images; for sem_seg.
            Optional for panoptic, where semantic results are scored by them; the numbers there are
            positions in the list of all classes by id, things before stuff.
        classes: for sem_seg, the names of the labels 0, 1, ..., or a mapping of label (7 or "7") to
            name, where labels that it lacks are ignored. Elsewhere the names come from the json;
            given here, in the order of the category ids, they have to agree. Numbers become text.
        ignore_label: of pixels that belong to no class, in label maps.
        boxes_as_masks: for instance, take the box of an object that has no mask.

    Raises:
        FileNotFoundError: a file or folder is missing.
        UserError: an argument is missing or does not fit the task, the name is taken, or the
            annotations are not of the form.
    """
    classes = classes_as_in_file(classes, name)
    given = {key: value for key, value in locals().items() if key not in ("name", "task")}
    if _is_registered(name, {"task": task, **given}):
        return
    if task not in _TASKS:
        raise UserError(f"{name}: task has to be one of {', '.join(_TASKS)}, not {task!r}")
    parameters = inspect.signature(_TASKS[task]).parameters
    for key in (*PATHS, "classes"):
        needed = key in parameters and parameters[key].default is inspect.Parameter.empty
        if needed and given[key] is None:
            raise UserError(f"{name}: a dataset of task {task} needs {key}")
        if given[key] is not None and key not in parameters:
            raise UserError(f"{name}: a dataset of task {task} has no {key}")
    for key in (key for key in PATHS if given[key] is not None):
        common.require(given[key], f"{key} of the dataset {name} has to exist.")
        if os.path.isdir(given[key]) == (key == "annotations"):
            kind = "a json file" if key == "annotations" else "a folder"
            raise UserError(f"{name}: {key} has to be {kind}, {given[key]} is none")
    catalog.give_way(name)
    _TASKS[task](name, **{key: given[key] for key in parameters if key in given})
    catalog.keep(name)
    _REGISTERED[name] = {"task": task, **given}


def classes_as_in_file(classes: ClassNames | None, name: str) -> list[str] | dict[str, str] | None:
    """Return the same classes as a config file has them, in which keys are text.

    Raises:
        UserError: neither a list nor a mapping, a name that is no text or number, or one twice.
    """
    if classes is None:
        return None
    where = f"{name}: classes"
    if isinstance(classes, str) or not isinstance(classes, Sequence | Mapping):
        raise UserError(f"{where} has to be a list of names, or a mapping, not {classes!r}")
    names = class_texts(classes, where)
    if not isinstance(classes, Mapping):
        return names
    labels = [str(label) for label in classes]
    if len(set(labels)) < len(labels):
        raise UserError(f"{where}: a label occurs twice in {classes!r}")
    return dict(zip(labels, names))


def _is_registered(name: str, arguments: Mapping[str, Any]) -> bool:
    if name not in DatasetCatalog or catalog.is_ours(name):
        return False
    if _REGISTERED.get(name) == arguments:
        return True
    what = f"with {_REGISTERED[name]}" if name in _REGISTERED else "by detectron2 or a plugin"
    raise UserError(f"the name {name!r} is taken: it was registered {what}; choose another name")


def _add_instances(
    name: str,
    *,
    image_root: str,
    annotations: str,
    classes: ClassNames | None = None,
    boxes_as_masks: bool = False,
) -> None:
    read = read_instances(annotations, image_root, boxes_as_masks=boxes_as_masks)
    categories = _usable_categories(name, classes, read)
    register_instances(
        name,
        categories,
        image_root=image_root,
        json_file=annotations,
        hint=_HINT,
        thing_colors=[c["color"] for c in categories],
        boxes_as_masks=boxes_as_masks,
    )


def _add_video(
    name: str, *, image_root: str, annotations: str, classes: ClassNames | None = None
) -> None:
    categories = _usable_categories(name, classes, read_videos(annotations, image_root))
    register_videos(name, categories, image_root=image_root, json_file=annotations, hint=_HINT)


def _add_panoptic(
    name: str,
    *,
    image_root: str,
    annotations: str,
    panoptic_root: str,
    sem_seg_root: str | None = None,
    classes: ClassNames | None = None,
    ignore_label: int = 255,
) -> None:
    read = read_panoptic(annotations, image_root, panoptic_root)
    categories = _usable_categories(name, classes, read)
    # Things first, as in COCO: then instance results have the classes 0 to the number of things.
    ordered = sorted(categories, key=lambda c: not c["isthing"])
    register_panoptic(
        name,
        panoptic_metadata(ordered),
        image_root=image_root,
        panoptic_root=panoptic_root,
        panoptic_json=annotations,
        sem_seg_root=sem_seg_root,
        evaluator_type="coco_panoptic_seg",
        ignore_label=ignore_label,
        hint=_HINT,
        names_in_json=True,
    )


def _add_sem_seg(
    name: str, *, image_root: str, sem_seg_root: str, classes: ClassNames, ignore_label: int
) -> None:
    pairs = classes.items() if isinstance(classes, dict) else enumerate(classes)
    names = {int(label) if str(label).isdecimal() else -1: text for label, text in pairs}
    if not names or min(names) < 0 or len(names) < len(classes):
        raise UserError(
            f"{name}: classes has to be a list of names, or a mapping of labels (0 or more) to "
            f"names, not {classes!r}"
        )
    if ignore_label in names:
        raise UserError(f"{name}: label {ignore_label} cannot be both a class and ignore_label")
    # Labels that a mapping lacks are ignored, also where it has 0, 1, ...
    more = {"sem_seg_labels": list(names)} if isinstance(classes, dict) else {}
    register_semantic(
        name,
        image_root=image_root,
        sem_seg_root=sem_seg_root,
        hint=_HINT,
        ignore_label=ignore_label,
        stuff_classes=list(names.values()),
        stuff_colors=common.palette(len(names)),
        **more,
    )


# How each task is registered; arguments without a default have to be given.
_TASKS: dict[str, Callable[..., None]] = {
    "instance": _add_instances,
    "panoptic": _add_panoptic,
    "sem_seg": _add_sem_seg,
    "video": _add_video,
}


def _usable_categories(
    name: str, classes: ClassNames | None, read: Annotations
) -> list[common.Category]:
    """Return the categories of an annotation file, of which nothing is refused.

    The classes that a dataset is registered with, if it is, have to be those of its file.
    """
    read.findings.raise_refused()
    found = [c["name"] for c in read.categories]
    wanted = list(classes.values() if isinstance(classes, Mapping) else classes or found)
    if wanted != found:
        raise UserError(f"{name}: classes is {wanted}, but {read.file} has {found}")
    return list(read.categories)
