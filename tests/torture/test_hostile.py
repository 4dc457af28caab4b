"""Files that are made to run code or to exhaust the machine: a clear error or a result, and soon.

An audit hook is the trip wire: whatever runs a program, opens a file for writing or a socket, or
imports a module while a file is read, fails the case.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from mask2former.annotations.readers.instances import read_instances
from mask2former.checkpoints.storage.pickle_limits import UnsafePickleError
from mask2former.checkpoints.storage.safe_pickle import load_pickle
from mask2former.checkpoints.storage.weights_io import load_weights
from mask2former.config import get_config
from mask2former.config.loading import merge_file
from mask2former.errors import UserError
from mask2former.formats.images import image_size, read_image
from mask2former.formats.label_maps import read_labels, read_panoptic_png
from mask2former.formats.segmentations import compress
from tests.torture.guard import Limits, run_cases
from tests.torture.hostile import archives, files, pickles

LIMITS = Limits(seconds=2, mebibytes=256, trip_wire=True)


def check(torture, promise: str, names: Sequence[str], read: Callable[[int], object]) -> None:
    """Read the files of these names, the first of which is sound, each in its limits."""
    failures = run_cases(read, len(names), LIMITS)
    texts = [f"{names[int(text.split()[1].rstrip(':'))]}: {text}" for text in failures]
    torture.record("Hostile files", promise, len(names), texts)


def test_pickles_of_code_are_refused(torture) -> None:
    cases = [("sound", pickles.benign()), *pickles.code()]

    def read(number: int) -> None:
        name, data = cases[number]
        try:
            load_pickle(io.BytesIO(data))
        except UnsafePickleError:
            return
        except UserError:
            assert not name.startswith(("reduce", "stacked", "inst", "obj", "newobj")), name
            raise
        assert name == "sound", f"{name} was read"

    check(torture, "pickles that name code are refused", [n for n, _ in cases], read)


def test_pickles_that_exhaust(torture) -> None:
    cases = [("sound", pickles.benign()), *pickles.exhausting()]

    def read(number: int) -> None:
        load_pickle(io.BytesIO(cases[number][1]))

    check(torture, "pickles claim, nest and unfold in vain", [n for n, _ in cases], read)


def test_pickles_as_checkpoints(torture, tmp_path: Path) -> None:
    cases = [("sound", pickles.benign())]
    cases += [*pickles.code(), *pickles.exhausting()]
    paths = write(tmp_path, [(name, ".pth", data) for name, data in cases])

    def read(number: int) -> None:
        use(load_weights(paths[number])[0])

    check(torture, "the same as checkpoints", [n for n, _ in cases], read)


@pytest.mark.filterwarnings("ignore:Duplicate name")  # which is what a case is about
def test_archives(torture, tmp_path: Path) -> None:
    cases = [("sound", archives.sound()), *archives.archives()]
    paths = write(tmp_path, [(name, ".pth", data) for name, data in cases])

    def read(number: int) -> None:
        weights, _ = load_weights(paths[number])
        use(weights)
        if set(weights) == {"w", "n"} and not cases[number][0].startswith(("crc", "header")):
            assert torch.equal(weights["w"], torch.arange(6.0)) and weights["n"] == 7

    check(torture, "archives with the quirks of zip", [n for n, _ in cases], read)


def test_safetensors(torture, tmp_path: Path) -> None:
    cases = [("sound", save({"w": torch.zeros(4)})), *archives.safetensors()]
    paths = write(tmp_path, [(name, ".safetensors", data) for name, data in cases])

    def read(number: int) -> None:
        use(load_weights(paths[number])[0])

    check(torture, "safetensors whose header lies", [n for n, _ in cases], read)


def test_yaml(torture, tmp_path: Path) -> None:
    cases = [("sound", b"MODEL: {DEVICE: cpu}"), *files.yaml_files()]
    paths = write(tmp_path, [(name, ".yaml", data) for name, data in cases])
    default = get_config()

    def read(number: int) -> None:
        merge_file(default.clone(), paths[number])

    check(torture, "yaml with tags, aliases and depth", [n for n, _ in cases], read)


def test_json(torture, tmp_path: Path) -> None:
    sound = b'{"images":[{"id":1,"height":9,"width":9}],"categories":[{"id":1,"name":"a"}]}'
    cases = [("sound", sound), *files.json_files()]
    paths = write(tmp_path, [(name, ".json", data) for name, data in cases])

    def read(number: int) -> None:
        annotations = read_instances(paths[number])
        annotations.findings.raise_refused()
        sizes = {i["id"]: (i["height"], i["width"]) for i in annotations.content["images"]}
        for entry in annotations.content.get("annotations", ()):
            compress(entry["segmentation"], *sizes[entry["image_id"]])

    check(torture, "json of any depth and length", [n for n, _ in cases], read)


@pytest.mark.parametrize("reader", [image_size, read_image, read_labels, read_panoptic_png])
def test_images(torture, tmp_path: Path, reader: Callable) -> None:
    cases = all_images()
    paths = write(tmp_path, cases)
    check(
        torture,
        f"images that claim to be large, for {reader.__name__}",
        [case[0] for case in cases],
        lambda number: reader(paths[number]),
    )


@cache
def all_images() -> list[tuple[str, str, bytes]]:
    return [("sound", ".png", files.png()), *files.images()]


def write(folder: Path, cases: Sequence[tuple[str, str, bytes]]) -> list[Path]:
    paths = []
    for number, (_, suffix, data) in enumerate(cases):
        path = folder / f"{number}" / f"hostile{suffix}"
        path.parent.mkdir()
        path.write_bytes(data)
        paths.append(path)
    return paths


def use(weights: dict[str, torch.Tensor]) -> None:
    for tensor in weights.values():
        tensor.clone()
