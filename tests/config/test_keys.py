"""Config keys: published defaults, documentation, order of calls."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.projects.deeplab import add_deeplab_config

from mask2former.config import (
    add_maskformer2_config,
    add_maskformer2_video_config,
    get_config,
)

ROOT = Path(__file__).resolve().parents[2]
ADDERS = {
    "deeplab": add_deeplab_config,
    "image": add_maskformer2_config,
    "video": add_maskformer2_video_config,
}


def look_up(cfg: CfgNode, key: str):
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def dotted_keys(cfg: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from dotted_keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


# Agreement with the published code


@pytest.mark.parametrize("part", ["image", "video"])
def test_keys_types_and_defaults_are_the_published_ones(shared: Path, part: str):
    published = json.loads((shared / "reference" / "config_keys.json").read_text())[part]
    cfg = get_config()
    for key, expected in published.items():
        assert look_up(cfg, key) == expected["default"], key
        assert type(look_up(cfg, key)).__name__ == expected["type"], key


def test_the_documentation_lists_exactly_the_keys_there_are():
    before = get_cfg()
    add_deeplab_config(before)
    added = set(dotted_keys(get_config())) - set(dotted_keys(before))
    text = (ROOT / "docs" / "configuration.md").read_text()
    documented = {}  # from the tables under headings such as "## `MODEL.SWIN`"
    for section in text.split("\n## "):
        node = section.split("`")[1] if section.startswith("`") else None
        for name, kind, default in re.findall(r"^\| `(\w+)` \| (\w+) \| `(.+?)` \|", section, re.M):
            documented[f"{node}.{name}"] = (kind, ast.literal_eval(default))
    assert set(documented) == added
    for key, (kind, default) in documented.items():
        assert look_up(get_config(), key) == default, key
        assert type(default).__name__ == kind, key


# Order of calls


@pytest.mark.parametrize(
    "order", [("image", "deeplab", "video"), ("video", "image", "deeplab"), ("image", "video")]
)
def test_may_be_called_in_any_order(order: tuple[str, ...]):
    cfg = get_cfg()
    for name in order:
        ADDERS[name](cfg)
    add_deeplab_config(cfg)
    assert cfg == get_config()


def test_a_second_call_keeps_what_was_set():
    cfg = get_config()
    cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES = 7
    cfg.INPUT.SAMPLING_FRAME_NUM = 5
    add_maskformer2_config(cfg)
    add_maskformer2_video_config(cfg)
    assert cfg.MODEL.MASK_FORMER.NUM_OBJECT_QUERIES == 7
    assert cfg.INPUT.SAMPLING_FRAME_NUM == 5


def test_lists_are_not_shared_between_configs():
    get_config().MODEL.SWIN.DEPTHS.append(3)
    assert get_config().MODEL.SWIN.DEPTHS == [2, 2, 6, 2]


def test_a_frozen_config_is_refused():
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(AttributeError, match="immutable"):
        add_maskformer2_config(cfg)
