"""Templates of names: values worked out by hand, and there and back."""

import pytest
import torch

from mask2former.checkpoints.name_map import NameMap

MAP = NameMap(
    [
        ("a.{i}.norm.{p}", "b.{i+1}.n.{p}"),
        ("res{s+2}.{b}.w", "stages.{s}.{b}.w"),
        ("qkv.{p}", ("q.{p}", "k.{p}", "v.{p}")),
    ]
)


def test_numbers_are_shifted_and_tensors_cut():
    qkv = torch.arange(6.0)
    theirs, unknown = MAP.to_theirs(
        {"a.0.norm.weight": torch.ones(1), "res4.11.w": torch.ones(2), "qkv.bias": qkv, "x": qkv}
    )
    assert list(theirs) == ["b.1.n.weight", "stages.2.11.w", "q.bias", "k.bias", "v.bias"]
    assert theirs["k.bias"].tolist() == [2, 3]
    assert unknown == ["x"]


def test_there_and_back_in_any_order():
    ours = {
        "qkv.weight": torch.randn(6, 4),
        "res5.0.w": torch.randn(2),
        "a.3.norm.bias": torch.ones(1),
    }
    theirs, _ = MAP.to_theirs(ours)
    back, unknown = MAP.to_ours(dict(reversed(theirs.items())))
    assert not unknown and set(back) == set(ours)
    assert all(torch.equal(back[name], ours[name]) for name in ours)


@pytest.mark.parametrize("name", ["a.x.norm.weight", "a.0.norm.weight.more", "a.0_norm.weight"])
def test_names_that_only_look_alike_do_not_match(name):
    assert MAP.to_theirs({name: torch.ones(1)}) == ({}, [name])


def test_a_missing_part_is_named():
    with pytest.raises(ValueError, match=r"Only some of the parts of qkv\.bias"):
        MAP.to_ours({"q.bias": torch.ones(1), "v.bias": torch.ones(1)})


def test_names_alone():
    assert MAP.names_in_ours(["stages.0.1.w", "other"]) == {"stages.0.1.w": "res2.1.w"}
