"""The annotations of datasets by the names that they are registered under."""

from typing import Any

from detectron2.data import MetadataCatalog

from .instances import Annotations, read_instances


def read_registered_instances(name: str, **options: Any) -> Annotations:
    """Read the COCO instance json that the metadata of a dataset name.

    Args:
        name: its metadata have json_file, and perhaps image_root and boxes_as_masks.
        options: of `read_instances`.

    Raises:
        FileNotFoundError, AnnotationError: as `read_instances`.
    """
    metadata = MetadataCatalog.get(name)
    return read_instances(
        metadata.json_file,
        metadata.get("image_root"),
        boxes_as_masks=metadata.get("boxes_as_masks", False),
        **options,
    )
