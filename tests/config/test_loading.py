"""Reading of configs: what is set in which order, values by hand, edges, errors, NUM_CLASSES."""

import json
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from mask2former.config import get_config, load_config, merge_file
from mask2former.config.loading import merge_keys, merge_opts

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


def _names(keys: str) -> str:
    return f"MODEL: {{CLASSES: {{NAMES: [a, b], THING_IDS: [0]}}}}\n{keys}"


TRAINED = "DATASETS: {TRAIN: [mine], TEST: [mine]}\n"  # as config.yaml of an output folder


@pytest.mark.parametrize(
    ("top", "opts", "kept"),
    [
        ("", [], True),
        ("DATASETS: {TEST: [x]}\n", ["DATASETS.CUSTOM", str([{"name": "x"}])], True),
        ("DATASETS: {TRAIN: [x]}\n", [], False),
        ("", ["DATASETS.TRAIN", "('x',)"], False),
        ("", ["DATASETS.CUSTOM", str([{"name": "mine"}])], False),
        ("MODEL: {SEM_SEG_HEAD: {NUM_CLASSES: 3}}\n", [], False),
        (_names("DATASETS: {TRAIN: [x]}\n"), [], True),
        ("", ["DATASETS.TRAIN", "('x',)", "MODEL.CLASSES.NAMES", "['a', 'b']"], True),
    ],
)
def test_names_of_other_training_data_are_not_inherited(tmp_path, top, opts, kept):
    (tmp_path / "base.yaml").write_text(_names(TRAINED))
    (tmp_path / "top.yaml").write_text(f"_BASE_: base.yaml\n{top}")
    node = load_config(tmp_path / "top.yaml", opts).MODEL.CLASSES
    assert ([["a", "b"], [0]] if kept else [[], []]) == [node.NAMES, node.THING_IDS]


@pytest.fixture
def cfg() -> CfgNode:
    model = {"WIDTH": 4, "RATE": 0.1, "NAME": "", "SCALE": None, "ON": True}
    return CfgNode({"VERSION": 2, "MODEL": model, "TRAIN": (), "SIZES": [1, 2]})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("MODEL.WIDTH", "8", 8),
        ("MODEL.RATE", 1, 1.0),
        ("MODEL.RATE", "1e-4", 0.0001),  # yaml reads this as a string, for want of a point
        ("MODEL.NAME", "123", "123"),
        ("MODEL.NAME", "'quoted'", "quoted"),
        ("MODEL.NAME", "a/b.pkl", "a/b.pkl"),
        ("MODEL.NAME", "", ""),
        ("MODEL.SCALE", "0.5", 0.5),
        ("MODEL.WIDTH", None, None),
        ("MODEL.ON", "False", False),
        ("TRAIN", "('a', 'b')", ("a", "b")),
        ("TRAIN", ["a"], ("a",)),
        ("SIZES", (3,), [3]),
        ("SIZES", "(" * 500, None),
    ],
)
def test_values_take_the_type_of_the_key(cfg, key, value, expected):
    if key == "SIZES" and isinstance(value, str):
        with pytest.raises(ValueError, match="SIZES expects list"):
            merge_opts(cfg, [key, value])
        return
    merge_opts(cfg, [key, value])
    node, _, name = key.rpartition(".")
    result = (cfg[node] if node else cfg)[name]
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.WIDTH", "wide"], r"command line: MODEL\.WIDTH expects int .*4.*got str: 'wide'"),
        (["MODEL.WIDTH", "0.5"], r"MODEL\.WIDTH expects int .*got float: 0\.5"),
        (["MODEL.ON", "1"], r"MODEL\.ON expects bool .*got int: 1"),
        (["TRAIN", "coco"], r"TRAIN expects tuple .*got str: 'coco'; .* write \['coco'\]"),
        (["MODEL", "3"], r"MODEL holds further keys, expected a mapping, got '3'"),
        (["MODEL.NAME.X", "3"], r"MODEL\.NAME expects str .*got dict"),
        (["MODEL.WIDHT", "3"], r"there is no config key MODEL\.WIDHT; nearest: MODEL\.WIDTH"),
        (["model.width", "3"], r"no config key model.*nearest: MODEL"),
        (["WIDTH", "3"], r"no config key WIDTH; nearest: MODEL\.WIDTH"),
        (["QQQ", "3"], r"there is no config key QQQ$"),
        (["MODEL.WIDTH"], r"expected pairs of KEY VALUE, .*: MODEL\.WIDTH"),
        (["VERSION", "1"], r"expected VERSION 2, got '1'; .*upgrade_config"),
    ],
)
def test_errors_say_what_was_expected(cfg, opts, message):
    before = cfg.clone()
    with pytest.raises(ValueError, match=message):
        merge_opts(cfg, opts)
    assert cfg == before


def test_nothing_is_set_where_one_key_does_not_fit(cfg):
    before = cfg.clone()
    with pytest.raises(ValueError, match=r"file\.yaml: MODEL\.RATE expects float"):
        merge_keys(cfg, {"MODEL": {"WIDTH": 8, "RATE": "fast"}}, "file.yaml")
    assert cfg == before


def test_the_values_of_a_file_are_copied(cfg):
    sizes = [5, 6]
    merge_keys(cfg, {"SIZES": sizes}, "file.yaml")
    sizes.append(7)
    assert cfg.SIZES == [5, 6]


def test_paths_of_custom_datasets_may_be_beside_the_config(tmp_path, monkeypatch):
    (tmp_path / "configs" / "photos").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "configs" / "here").mkdir()
    entry = "{name: a, task: instance, image_root: photos, annotations: none.json}"
    other = "{name: b, task: instance, image_root: here}"
    path = tmp_path / "configs" / "c.yaml"
    path.write_text(f"DATASETS: {{CUSTOM: [{entry}, {other}]}}\n")
    monkeypatch.chdir(tmp_path)
    a, b = load_config(path).DATASETS.CUSTOM
    assert a["image_root"] == str(tmp_path / "configs" / "photos")
    assert a["annotations"] == "none.json"
    assert b["image_root"] == "here"  # there where the command runs
