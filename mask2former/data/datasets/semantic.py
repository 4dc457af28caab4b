"""Datasets of label maps: two folders, of images and of maps, whose files match by name."""

from typing import Any

from detectron2.data import MetadataCatalog

from ...annotations.inventory import Inventory
from ...annotations.readers.label_maps import look_at_maps, pair_label_maps
from ...annotations.registered import label_meaning
from . import common
from .loading import FileLoader, Loaded


def register_semantic(
    name: str,
    *,
    image_root: str,
    sem_seg_root: str,
    hint: str,
    ignore_label: int = 255,
    **metadata: Any,
) -> None:
    """Register two folders, of images and of label maps, whose files match by name.

    Args:
        hint: what messages about missing files say on how to make them.
    """
    common.add(
        name,
        LabelMapLoader(name, hint),
        image_root=image_root,
        sem_seg_root=sem_seg_root,
        evaluator_type="sem_seg",
        ignore_label=ignore_label,
        **metadata,
    )


class LabelMapLoader(FileLoader):
    """Load a dataset whose metadata are those of ``register_semantic``.

    A record has file_name and sem_seg_file_name. Photos without a map, and maps without a photo,
    are left out, which is among the findings.
    """

    def _read(self) -> Loaded:
        metadata = MetadataCatalog.get(self._name)
        roots = (metadata.image_root, metadata.sem_seg_root)
        for root in roots:
            common.require(root, self._hint)
        try:
            pairs, findings = pair_label_maps(*roots)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}. {self._hint}") from error
        meaning = label_meaning(self._name)
        return Loaded(
            [{"file_name": photo, "sem_seg_file_name": label_map} for photo, label_map in pairs],
            findings,
            Inventory(meaning.classes, len(pairs), annotated=None),
            sample=lambda: look_at_maps([path for _, path in pairs], meaning, roots[1]),
        )
