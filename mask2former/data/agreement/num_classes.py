"""The number of classes, on which a config and its datasets have to agree."""

from collections.abc import Callable, Iterable, Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ...classes import list_some
from ...config.architecture import meta_architecture
from ...config.keys import CLASSES_FROM_DATA
from ...errors import UserError

# Models of detectron2 whose head for regions has classes of its own.
COUNT_OTHERWISE = ("PanopticDeepLab", "PanopticFPN")


def check_num_classes(cfg: CfgNode, names: Iterable[str]) -> None:
    """Compare MODEL.SEM_SEG_HEAD.NUM_CLASSES with the classes of the named datasets.

    Datasets whose metadata is not known before they are loaded pass, and so do models whose head
    for regions has classes of its own.

    Raises:
        UserError: with both numbers.
    """
    if cfg.MODEL.META_ARCHITECTURE in COUNT_OTHERWISE:
        return
    expected = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    for name in names:
        classes = class_names(cfg, name)
        if classes and len(classes) != expected:
            raise UserError(
                f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {expected}, but {name} has {len(classes)} "
                f"classes ({list_some(classes)}); set it to {len(classes)}, choose another "
                f"dataset, or set it to {CLASSES_FROM_DATA} for the number in the data"
            )


def check_classes(
    classes: Sequence[int], num_classes: int | None, name: Callable[[int], str]
) -> None:
    """Compare contiguous classes with those of the model.

    Args:
        num_classes: of the model; None checks nothing.
        name: what messages call the one at an index.

    Raises:
        UserError: one is not in 0 to ``num_classes`` - 1; names it.
    """
    for i, category in enumerate(classes):
        if num_classes is not None and not 0 <= category < num_classes:
            raise UserError(
                f"{name(i)} has class {category}; MODEL.SEM_SEG_HEAD.NUM_CLASSES {num_classes} "
                f"allows 0 to {num_classes - 1}"
            )


def class_names(cfg: CfgNode, name: str) -> list[str]:
    """Return the classes of a dataset that the model of a config tells apart; [] where not known.

    Instance and video models tell apart the thing classes; panoptic and semantic ones all classes,
    which the metadata lists as stuff_classes.
    """
    metadata = MetadataCatalog.get(name)
    things, stuff = (metadata.get(f"{kind}_classes", None) for kind in ("thing", "stuff"))
    is_video = meta_architecture(cfg) == "VideoMaskFormer"
    things_only = is_video or "instance" in cfg.INPUT.DATASET_MAPPER_NAME
    return list((things if things_only or not stuff else stuff) or [])


def datasets_in_use(cfg: CfgNode) -> list[str]:
    """Return those of DATASETS.TRAIN and TEST whose classes are the model's.

    Of a video model's training data that is the first: the loader maps the others to its classes.
    """
    is_video = meta_architecture(cfg) == "VideoMaskFormer"
    train = cfg.DATASETS.TRAIN[:1] if is_video else cfg.DATASETS.TRAIN
    return list(dict.fromkeys((*train, *cfg.DATASETS.TEST)))
