"""Names of classes as text."""

import pytest

from mask2former.formats.class_names import class_text, class_texts


@pytest.mark.parametrize(
    ("value", "expected"),
    [("cat", "cat"), (" traffic  light", " traffic  light"), ("1", "1"), (1, "1"), (0, "0"),
     (-2, "-2"), (1.5, "1.5"), ("off", "off"), ("犬", "犬")],
)  # fmt: skip
def test_text_stays_and_numbers_are_written_out(value, expected):
    assert class_text(value, "a.json: category 3") == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [(False, "false, no or off without quotes is the truth value false; put the name in quotes"),
     (True, "true, yes or on without quotes is the truth value true"),
     (None, "has to be text, not None; write a name"),
     (float("nan"), "not nan"), (float("inf"), "not inf"),
     (["cat"], r"not \['cat'\]"), ({}, "not {}"),
     ("", "'' is blank"), (" \t", "is blank")],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_its_place(value, message):
    with pytest.raises(ValueError, match=f"^a.json: category 3: the name of a class.*{message}"):
        class_text(value, "a.json: category 3")


def test_lists_and_mappings_keep_their_order():
    assert class_texts(["cat", 1, "a cat"], "t") == ["cat", "1", "a cat"]
    assert class_texts({"7": "road", 2: "sky"}, "t") == ["road", "sky"]
    assert class_texts([], "t") == []


def test_a_name_that_occurs_twice_is_refused_with_both_places():
    with pytest.raises(ValueError, match="t: the name 'cat' is at the positions 0 and 2"):
        class_texts(["cat", "dog", "cat"], "t")
    with pytest.raises(ValueError, match="t: the name '1' is at the labels 4 and 7"):
        class_texts({4: 1, 7: "1"}, "t")


def test_the_place_of_what_is_no_name_is_said():
    with pytest.raises(ValueError, match="t, position 1: the name"):
        class_texts(["cat", False], "t")
    with pytest.raises(ValueError, match="t, label 3: the name"):
        class_texts({3: None}, "t")
