"""Reading of configs: order of what is set, errors with their message, inherited NUM_CLASSES."""

import json
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from mask2former.config import get_config, load_config, merge_file

OWN = [{"name": "mine", "task": "instance", "image_root": ".", "annotations": "a.json"}]
CLASSES = "MODEL: {SEM_SEG_HEAD: {NUM_CLASSES: %d}}\n"
CUSTOM = f"DATASETS: {{CUSTOM: {json.dumps(OWN)}}}\n"


@pytest.fixture
def write(tmp_path: Path):
    """Writes a yaml file and returns its path."""

    def _write(text: str, name: str = "test.yaml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return _write


def test_sets_file_then_opts_and_does_not_freeze(write):
    path = write("MODEL:\n  MASK_FORMER:\n    NHEADS: 4\n    HIDDEN_DIM: 64\n")
    cfg = load_config(path, ["MODEL.MASK_FORMER.NHEADS", "2"])
    assert cfg.MODEL.MASK_FORMER.NHEADS == 2
    assert cfg.MODEL.MASK_FORMER.HIDDEN_DIM == 64
    assert not cfg.is_frozen()


def test_bases_come_first(write):
    write("SEED: 1\nOUTPUT_DIR: a\nVERSION: 2\n", "grandparent.yaml")
    write("_BASE_: grandparent.yaml\nSEED: 2\nVIS_PERIOD: 5\n", "parent.yaml")
    cfg = load_config(write("_BASE_: parent.yaml\nSEED: 3\n"))
    assert (cfg.SEED, cfg.VIS_PERIOD, cfg.OUTPUT_DIR) == (3, 5, "a")


def test_keys_of_ones_own_can_be_added_before_a_file(write):
    path = write("MODEL:\n  MINE:\n    WIDTH: 3\n")
    with pytest.raises(ValueError, match=r"no config key MODEL\.MINE"):
        load_config(path)
    cfg = get_config()
    cfg.MODEL.MINE = CfgNode({"WIDTH": 1})
    merge_file(cfg, path)
    assert cfg.MODEL.MINE.WIDTH == 3


def test_published_form_of_tags_loads(write):
    path = write(
        "INPUT:\n  MIN_SIZE_TRAIN: !!python/object/apply:eval "
        '["[int(x * 0.1 * 512) for x in range(5, 9)]"]\n'
    )
    assert load_config(path).INPUT.MIN_SIZE_TRAIN == (256, 307, 358, 409)


def test_errors_of_a_base_name_the_base(write):
    base = write("MODEL:\n  MASK_FORMER:\n    NUM_QUERIES: 3\n", "base.yaml")
    with pytest.raises(
        ValueError, match=r"nearest: MODEL\.MASK_FORMER\.NUM_OBJECT_QUERIES"
    ) as info:
        load_config(write("_BASE_: base.yaml\n"))
    assert str(info.value).startswith(base)


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
def test_the_number_of_other_datasets_is_not_inherited(tmp_path, base, top, opts, expected):
    assert _num_classes(tmp_path, base, top, opts) == expected
