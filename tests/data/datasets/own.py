"""What the tests of one's own datasets share."""

import json
from pathlib import Path

from detectron2.config import CfgNode

from mask2former.config import get_config

SHAPES = ["disc", "square", "triangle", "star", "ring", "cross", "sky", "grass", "water", "wall"]


def rewrite(entry: dict, **changes) -> dict:
    """Writes the entry's json with other contents, and returns the entry for it."""
    path = Path(entry["annotations"])
    content = {**json.loads(path.read_text()), **changes}
    other = Path(entry["image_root"]).parent / f"changed_{abs(hash(str(changes)))}.json"
    other.write_text(json.dumps(content))
    return {**entry, "annotations": str(other)}


def make_config(*entries: dict, train: str = "", classes: int | None = None) -> CfgNode:
    cfg = get_config()
    cfg.DATASETS.CUSTOM = list(entries)
    cfg.DATASETS.TRAIN = (train or entries[0]["name"],)
    if classes is not None:
        cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = classes
    return cfg
