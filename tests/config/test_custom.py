"""Whose number of classes holds where a config names data sets of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mask2former.config import load_config

OWN = [{"name": "mine", "task": "instance", "image_root": ".", "annotations": "a.json"}]
CLASSES = "MODEL: {SEM_SEG_HEAD: {NUM_CLASSES: %d}}\n"
CUSTOM = f"DATASETS: {{CUSTOM: {json.dumps(OWN)}}}\n"


def _num_classes(folder: Path, base: str, top: str = "", opts: list[str] | None = None) -> int:
    (folder / "base.yaml").write_text(base)
    (folder / "top.yaml").write_text(f"_BASE_: base.yaml\n{top}")
    return load_config(folder / "top.yaml", opts or []).MODEL.SEM_SEG_HEAD.NUM_CLASSES


@pytest.mark.parametrize(
    ("base", "top", "opts", "expected"),
    [
        (CLASSES % 10, "", [], 10),
        (CLASSES % 10, CUSTOM, [], -1),
        (CLASSES % 10, CUSTOM + CLASSES % 3, [], 3),
        (CLASSES % 10 + CUSTOM, "", [], 10),
        (CUSTOM, CLASSES % 3, [], 3),
        (CLASSES % 10, "", ["DATASETS.CUSTOM", str(OWN)], -1),
        (CLASSES % 10, CLASSES % 3, ["DATASETS.CUSTOM", OWN], -1),
        (CLASSES % 10, CUSTOM, ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3"], 3),
        (
            CLASSES % 10,
            "",
            ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "3", "DATASETS.CUSTOM", str(OWN)],
            3,
        ),
        (CLASSES % 10, "DATASETS: {CUSTOM: []}\n", ["DATASETS.CUSTOM", "[]"], 10),
        ("SEED: 1\n", CUSTOM, [], -1),
    ],
)
def test_the_number_of_other_data_sets_is_not_inherited(tmp_path, base, top, opts, expected):
    assert _num_classes(tmp_path, base, top, opts) == expected
