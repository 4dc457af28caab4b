"""Setting config keys: values worked out by hand, edges, errors with their message."""

import pytest
from detectron2.config import CfgNode

from mask2former.config.merge import merge_keys, merge_opts


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
