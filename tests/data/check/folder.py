"""Small datasets in a folder, which tests spoil, and what the checker says of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mask2former.data.check import command as check

SQUARE = [[2.0, 2.0, 9.0, 2.0, 9.0, 9.0, 2.0, 9.0]]
SIZE = (20, 30)  # H, W


class Folder:
    """A small dataset whose parts a test can spoil before it is written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.photos = {f"{i}.png": np.full((*SIZE, 3), 60 * i, np.uint8) for i in range(3)}
        self.content: dict[str, Any] = {}

    def write(self, name: str = "a.json") -> str:
        for photo, array in self.photos.items():
            Image.fromarray(array).save(self.root / photo)
        (self.root / name).write_text(json.dumps(self.content))
        return str(self.root / name)

    def run(self, capsys: pytest.CaptureFixture, entry: dict[str, Any], *options: str) -> str:
        """The report; the exit code is the first word of it."""
        entry = {"name": "mine", "image_root": str(self.root)} | entry
        opts = ["DATASETS.CUSTOM", json.dumps([entry])]
        code = check.main(["mine", *opts, "--output", str(self.root / "out"), *options])
        return f"{code} {capsys.readouterr().out}"


def square(i: int, image: int, category: int, **more: Any) -> dict[str, Any]:
    common = {"segmentation": SQUARE, "iscrowd": 0, "area": 49, "bbox": [2, 2, 7, 7]}
    return {"id": i, "image_id": image, "category_id": category} | common | more


def check_coco(coco: Folder, capsys, *options: str) -> str:
    return coco.run(capsys, {"task": "instance", "annotations": coco.write()}, *options)
