"""The five published mapper classes under their names and with their arguments.

Each is ``DatasetMapper`` with some of its arguments fixed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from ..config.arguments import takes, unless_default
from ..overrides import alias_of
from .mappers import MAPPERS, DatasetMapper


class _Published(DatasetMapper):
    """What the five have in common.

    Args:
        size_divisibility: side of the square to pad to, in pixels.
        settings: the augmentations, by the name that the class has for them, and what else
            `DatasetMapper` takes.
    """

    name = ""  # in MAPPERS, which fixes target, extras and drops
    published: tuple[str, ...] = ()  # arguments, beside those that all five have
    augmentations_name = "augmentations"
    tfm_gens = alias_of("augmentations")
    img_format = alias_of("image_format")

    @configurable
    def __init__(
        self, is_train: bool = True, *, size_divisibility: int = -1, **settings: Any
    ) -> None:
        target, _, extras, drop = MAPPERS[self.name]
        side = size_divisibility
        pad_to = (side, side) if side > 0 else None
        defaults = {"extras": extras, "drop": drop, "pad_to": pad_to}
        if self.augmentations_name in settings:
            settings["augmentations"] = settings.pop(self.augmentations_name)
        DatasetMapper.__init__(self, is_train, target=target, **defaults | settings)

    @property
    def size_divisibility(self) -> int:
        """Side of the square to pad to, in pixels; -1 for none."""
        return self.pad_to[0] if self.pad_to else -1

    @size_divisibility.setter
    def size_divisibility(self, side: int) -> None:
        self.pad_to = (side, side) if side > 0 else None

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Return the published arguments and, of ours, those that are used and taken."""
        settings = DatasetMapper.from_config(cfg, is_train, name=cls.name)
        target, _, extras, drop = MAPPERS[cls.name]
        fixed = {"target": target, "extras": extras, "drop": drop}
        options = {name: x for name, x in settings.items() if x != fixed.get(name)}
        names = ("is_train", "image_format", "augmentations", "pad_to", *cls.published)
        args = {name: options.pop(name) for name in names if name in options}
        if not takes(cls, "num_classes"):
            del options["num_classes"]
        args |= unless_default(cls, **options)
        return cls._padded(args | {cls.augmentations_name: args.pop("augmentations")})

    @classmethod
    def _padded(cls, args: dict[str, Any]) -> dict[str, Any]:
        """Say in the published way how images are padded."""
        pad_to = args.pop("pad_to", None)
        return args | {"size_divisibility": pad_to[0] if pad_to else -1}


class MaskFormerSemanticDatasetMapper(_Published):
    """mask_former_semantic."""

    name = "mask_former_semantic"
    published = ("ignore_label",)


class MaskFormerPanopticDatasetMapper(MaskFormerSemanticDatasetMapper):
    """mask_former_panoptic, with the arguments of the semantic one."""

    name = "mask_former_panoptic"


class MaskFormerInstanceDatasetMapper(_Published):
    """mask_former_instance."""

    name = "mask_former_instance"


class COCOPanopticNewBaselineDatasetMapper(_Published):
    """coco_panoptic_lsj. ``tfm_gens`` are the augmentations."""

    name = "coco_panoptic_lsj"
    augmentations_name = "tfm_gens"

    @classmethod
    def _padded(cls, args: dict[str, Any]) -> dict[str, Any]:
        if args.get("pad_to") and not takes(cls, "pad_to"):
            args["tfm_gens"] = [*args["tfm_gens"], T.FixedSizeCrop(args.pop("pad_to"))]
        return args


class COCOInstanceNewBaselineDatasetMapper(COCOPanopticNewBaselineDatasetMapper):
    """coco_instance_lsj, with the arguments of the panoptic one."""

    name = "coco_instance_lsj"


def annotations_by_object(
    frames: Sequence[Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Turn annotations of a video as published loaders give them, a list a frame, into ours.

    Args:
        frames: of each frame the objects in it, with id, category_id, segmentation and iscrowd.

    Returns:
        one dict an object, with the list ``segmentations``, None where it is not to be seen.
    """
    objects: dict[Any, dict[str, Any]] = {}
    for i, frame in enumerate(frames):
        for entry in frame:
            kept = {"id": entry["id"], "category_id": entry["category_id"]}
            kept |= {"iscrowd": entry.get("iscrowd", 0), "segmentations": [None] * len(frames)}
            objects.setdefault(entry["id"], kept)["segmentations"][i] = entry["segmentation"]
    return list(objects.values())
