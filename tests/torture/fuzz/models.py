"""What reads files that hold a model, or speak of one: weights and exported files."""

import random
from pathlib import Path

import numpy as np

from mask2former.checkpoints.storage.weights_io import load_weights
from mask2former.classes import Classes
from mask2former.runtime import metadata
from mask2former.runtime.images import to_batch
from mask2former.runtime.model import classes_of
from tests.torture.fuzz import corpus
from tests.torture.fuzz import mutations as m
from tests.torture.fuzz.corpus import H, W
from tests.torture.fuzz.raw import damaged_bytes


def safetensors(rng: random.Random, stem: Path) -> None:
    data = m.damaged_safetensors(rng, corpus.weights_file("a.safetensors"))
    _use_weights(write(stem.with_suffix(".safetensors"), data))


def plain_pickle(rng: random.Random, stem: Path) -> None:
    data = m.damaged_pickle(rng, corpus.weights_file(f"{rng.randrange(6)}.pkl"))
    _use_weights(write(stem.with_suffix(".pkl"), data))


def torch_zip(rng: random.Random, stem: Path) -> None:
    data = m.damaged_zip(rng, corpus.weights_file("zip.pth"), m.damaged_pickle)
    _use_weights(write(stem.with_suffix(".pth"), data))


def torch_legacy(rng: random.Random, stem: Path) -> None:
    data = damaged_bytes(rng, corpus.weights_file("legacy.pth"))
    _use_weights(write(stem.with_suffix(".pth"), data))


def onnx_metadata(rng: random.Random, stem: Path) -> None:
    path = write(stem.with_suffix(".onnx"), m.damaged_onnx(rng, corpus.onnx_file()))
    found = metadata.read(path, verify=rng.random() < 0.2)
    classes_of(found)
    to_batch([np.zeros((H, W, 3), np.uint8)], found, np.float32)


def write(path: Path, data: bytes) -> Path:
    """Write a file, and return its path."""
    path.write_bytes(data)
    return path


def _use_weights(path: Path) -> None:
    weights, rest = load_weights(path)
    for tensor in weights.values():
        assert tensor.numel() < 1 << 24
        tensor.clone()
    Classes.from_checkpoint(rest)
