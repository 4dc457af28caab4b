"""What readers of untrusted files take: a stated multiple of the file, under a limit of the system.

The multiple is what sound files need, rounded up; Python's objects are ten times their text.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mask2former.annotations.readers.instances import read_instances
from mask2former.checkpoints.storage.weights_io import load_weights, save_weights
from mask2former.config.yaml_reader import read_yaml
from mask2former.formats.images import read_image, write_image
from mask2former.formats.json_files import read_json
from tests.torture.test_disk import in_child

_FREE = 48  # MiB that a reader may take for any file
NOISE = np.random.default_rng(0)


def write_annotations(path: Path) -> None:
    polygon = [1.5, 2.5, 30.25, 2.5, 30.25, 40.75, 1.5, 40.75]
    entry = {"image_id": 1, "category_id": 1, "iscrowd": 0, "area": 9.5, "bbox": [1, 2, 29, 38]}
    image = {"id": 1, "file_name": "1.jpg", "height": 99, "width": 99}
    objects = [entry | {"id": i, "segmentation": [polygon]} for i in range(30_000)]
    categories = [{"id": 1, "name": "a"}]
    content = {"images": [image], "categories": categories, "annotations": objects}
    path.write_text(json.dumps(content))


def write_weights(path: Path) -> None:
    save_weights({f"w{i}": torch.randn(500, 1000) for i in range(16)}, path)


def write_old_pickle(path: Path) -> None:
    arrays = {f"w{i}": NOISE.standard_normal((500, 1000), "f4") for i in range(16)}
    path.write_bytes(pickle.dumps(arrays, 2))


def write_noise(path: Path) -> None:
    write_image(path, NOISE.integers(0, 256, (3000, 3000, 3), np.uint8))


def use(path: Path) -> None:
    for tensor in load_weights(path)[0].values():
        tensor.sum()


# name, what writes a large file, what reads it, and the multiple of its bytes that this may take
READERS: tuple[tuple[str, Callable[[Path], Any], Callable[[Path], Any], float], ...] = (
    ("any.json", write_annotations, read_json, 12),
    ("instances.json", write_annotations, read_instances, 16),
    ("a.pth", write_weights, use, 1.5),
    ("a.safetensors", write_weights, use, 2.5),
    ("a.pkl", write_weights, use, 1.5),
    ("old.pkl", write_old_pickle, use, 2.5),
    ("a.png", write_noise, read_image, 5),
    (
        "a.yaml",
        lambda path: path.write_text("".join(f"KEY{i}: [1, 2, 3]\n" for i in range(5_000))),
        read_yaml,
        400,
    ),
)


@pytest.mark.parametrize("name", [reader[0] for reader in READERS])
def test_readers_take_a_stated_multiple_of_the_file(torture, tmp_path: Path, name: str) -> None:
    _, write, read, multiple = next(reader for reader in READERS if reader[0] == name)
    path = tmp_path / name
    write(path)
    allowed = int(multiple * path.stat().st_size) + _FREE * 2**20

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        room = pages * os.sysconf("SC_PAGE_SIZE") + allowed
        resource.setrlimit(resource.RLIMIT_AS, (room, room))

    error = in_child(lambda: read(path), limit)
    promise = f"{name}: reading fits in {multiple} times the file and {_FREE} MiB"
    torture.record("Memory", promise, 1, [error] if error else [])
