"""Real photos with annotations, from the reference folder, as a dataset of one's own."""

from __future__ import annotations

from pathlib import Path

from mask2former.data import register


def register_photos(shared: Path, task: str) -> Path:
    """Registers "photos": 2 with panoptic annotations, or 28 with instances; returns the json."""
    folder = shared / "data" / {"panoptic": "panoptic2", "instance": "coco28"}[task]
    more = {"panoptic_root": str(folder / "panoptic")} if task == "panoptic" else {}
    file = folder / {"panoptic": "panoptic.json", "instance": "instances.json"}[task]
    register("photos", task, image_root=str(folder / "images"), annotations=str(file), **more)
    return file
