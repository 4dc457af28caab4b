"""Classes that a config.json names: used where they can be, and what cannot be used is said."""

import re

import pytest

from mask2former.checkpoints.bridges.config_values import set_classes
from mask2former.config import get_config
from mask2former.errors import UserError

NAMES = {"0": "sky", "1": "cat", "2": "dog"}


def classes_of(config):
    cfg = get_config()
    set_classes(cfg, config)
    classes = cfg.MODEL.CLASSES
    return cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, classes.NAMES, classes.THING_IDS


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"id2label": NAMES, "thing_ids": [2, 1]}, (3, ["sky", "cat", "dog"], [1, 2])),
        ({"id2label": NAMES, "thing_ids": []}, (3, ["sky", "cat", "dog"], [])),
        ({"id2label": {2: "dog", 0: "sky", 1: 7}}, (3, ["sky", "7", "dog"], [])),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, (2, [], [])),  # names of none
        (
            {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "thing_ids": [1]},
            (2, ["LABEL_0", "LABEL_1"], [1]),
        ),
        ({"id2label": {"0": "LABEL_0", "1": "dog"}}, (2, ["LABEL_0", "dog"], [])),
        ({"id2label": {"0": "cat", "00": "dog"}}, (1, ["dog"], [])),  # as transformers reads it
        ({"num_labels": 5}, (5, [], [])),
    ],
)
def test_names_and_things(config, expected, caplog):
    assert classes_of(config) == expected
    assert not caplog.text


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"0": "cat", "2": "dog", "5": "sky"}, "id2label, position 1: .* '' is blank"),
        (NAMES | {"2": "cat"}, "id2label: the name 'cat' is at the positions 1 and 2"),
        (NAMES | {"1": None}, "id2label, position 1: .* has to be text, not None"),
        (NAMES | {"1": ["cat"]}, r"id2label, position 1: .* has to be text, not \['cat'\]"),
    ],
)
def test_names_that_cannot_be_used_are_told(labels, message, caplog):
    assert classes_of({"id2label": labels, "thing_ids": [1]}) == (3, [], [])
    assert re.search(message, caplog.text)
    assert "Classes have numbers here, as long as MODEL.CLASSES is empty" in caplog.text


@pytest.mark.parametrize(
    ("things", "message"),
    [
        ([3], "thing_ids expects positions in names, 0 to 2, got 3"),
        ([-1], "got -1"),
        (["1"], "got '1'"),
        ([True], "got True"),
        ("1", "thing_ids expects a list, got '1'"),
        (0, "thing_ids expects a list, got 0"),
        ({"cat": True}, "thing_ids expects a list"),
    ],
)
def test_things_that_cannot_be_used_are_told_and_names_stay(things, message, caplog):
    found = classes_of({"id2label": NAMES, "thing_ids": things})
    assert found == (3, ["sky", "cat", "dog"], [])
    assert message in caplog.text and "until MODEL.CLASSES.THING_IDS says so" in caplog.text


def test_things_without_names(caplog):
    assert classes_of({"num_labels": 5, "thing_ids": [1]}) == (5, [], [])
    assert "thing_ids expects positions in names" in caplog.text


def test_numbers_of_classes_that_are_none():
    for key in ("9" * 5000, "-1", "1.0", "", "x"):  # Python reads no number of 5000 digits
        with pytest.raises(UserError, match=r"config\.json: id2label: expected names of classes"):
            classes_of({"id2label": {key: "cat"}})
