"""The data sets that are known by name; importing this registers them and reads no data.

They are looked for under the folder that the variable DETECTRON2_DATASETS names, "datasets" by
default. A name that somebody registered before is left as it is.
"""

import os

from mask2former.data.datasets.shapes import register_shapes

__all__ = ["register_all"]


def register_all(root: str | None = None) -> None:
    """Registers every data set of this package; may be called again.

    Args:
        root: folder of the data sets; None for that of the variable DETECTRON2_DATASETS.
    """
    root = root or os.environ.get("DETECTRON2_DATASETS", "datasets")
    for register in (register_shapes,):
        register(root)


register_all()
