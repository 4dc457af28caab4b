"""Ids, numbers and flags in the forms in which tools write them."""

import pytest

from mask2former.annotations.parts.fields import flag, id_key, kind_of, number, pixels

NAN, INFINITE = float("nan"), float("inf")


def test_ids_of_digits_are_numbers() -> None:
    ids = (12, "12", "000012", " 12 ", 12.0, "a12", "-1", 10**30)
    assert [id_key(i) for i in ids] == [12, 12, 12, 12, 12, "a12", "-1", 10**30]


@pytest.mark.parametrize("value", [None, "", "  ", [1], {}, True, NAN])
def test_what_is_no_id(value) -> None:
    assert id_key(value) is None


def test_digits_beyond_what_python_counts_stay_text() -> None:
    assert id_key("1" * 5000) == "1" * 5000


def test_numbers_that_measure_nothing_are_none() -> None:
    assert [number(v) for v in (5, 2.5, "2.5", -3)] == [5, 2.5, 2.5, -3]
    values = (10**400, -(10**400), 1e300, NAN, INFINITE, "nan", "9" * 5000, True, None, [])
    assert [number(v) for v in values] == [None] * len(values)
    assert pixels(10**400) is None


def test_flags() -> None:
    assert [flag(v) for v in (0, 1, 0.0, True, "0", "1.0", "FALSE", " yes ", "", None)] == [
        *(0, 1, 0, 1, 0, 1, 0, 1, 0, 0)
    ]
    assert [flag(v) for v in (2, "2", "perhaps", [0], {}, NAN)] == [None] * 6


def test_kinds_are_called_as_in_json() -> None:
    values = ({}, [], "a", None, False, 1, 2.5)
    words = ("an object", "a list", "text", "null", "true or false", "a number", "a number")
    assert tuple(map(kind_of, values)) == words
