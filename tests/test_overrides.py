"""What counts as replaced: subclasses, mixins, patches of classes and objects; what is refused."""

import functools
from types import MethodType
from unittest import mock

import pytest

from mask2former.overrides import alias_of, is_replaced, refuse_overrides, replaceable


def fresh():
    class Own:
        @replaceable
        def method(self):
            return "own"

        @replaceable
        def other(self):
            return "other"

    return Own


def test_nothing_is_replaced():
    own = fresh()
    empty = type("Empty", (own,), {})
    for owner in (own, own(), empty, empty()):
        assert not is_replaced(owner, "method", "other")


def test_subclasses_and_mixins():
    own = fresh()
    sub = type("Sub", (own,), {"method": lambda self: super(sub, self).method()})
    mixed = type("Mixed", (type("Mixin", (), {"method": print}), own), {})
    for owner in (sub, sub(), type("SubSub", (sub,), {})(), mixed, mixed()):
        assert is_replaced(owner, "method") and is_replaced(owner, "other", "method")
        assert not is_replaced(owner, "other")


def test_patches():
    own = fresh()
    patched = own()
    patched.method = MethodType(lambda self: "patched", patched)
    assert is_replaced(patched, "method") and not is_replaced(own(), "method")
    with mock.patch.object(own, "method"):
        assert is_replaced(own(), "method")
    assert not is_replaced(own(), "method")
    original = own.method
    own.method = functools.wraps(original)(lambda self: original(self))  # looks like the original
    assert is_replaced(own(), "method")


def test_refusal_names_the_methods_and_what_to_do():
    sub = type("Sub", (fresh(),), {"old": print, "older": print})
    with pytest.raises(TypeError, match="Sub overrides older and old, which .* Override method."):
        refuse_overrides(sub(), ["older", "old", "missing"], "Override method.")
    patched = fresh()()
    refuse_overrides(patched, ["old"], "")
    patched.old = print
    with pytest.raises(TypeError, match="Own overrides old,"):
        refuse_overrides(patched, ["old"], "")


def test_an_alias_reads_and_sets_the_other_attribute():
    own = type("Own", (), {"published": alias_of("ours"), "ours": 1})()
    assert own.published == 1
    own.published = 2
    assert own.ours == own.published == 2
