"""Pairs of objects in what two tiles share, by hand; groups against a union by brute force."""

import numpy as np

from mask2former.mosaic.linking import Groups, Strip, link

SURE = {0: [0.9, 0.05, 0.05], 1: [0.05, 0.9, 0.05]}


def strip(*objects, cut=None):
    """Return a strip of 10 x 100 pixels with objects (class, first column, last column)."""
    masks = np.zeros((len(objects), 10, 100), bool)
    for mask, (_, first, last) in zip(masks, objects):
        mask[:, first:last] = True
    probs = np.array([SURE.get(o[0], o[0]) for o in objects], np.float32).reshape(-1, 3)
    cut = np.zeros(len(objects), bool) if cut is None else np.array(cut)
    return Strip(masks, probs, cut)


def test_the_same_objects_in_another_order():
    first = strip((0, 0, 20), (1, 30, 50), (0, 60, 90))
    second = strip((0, 62, 90), (0, 0, 22), (1, 30, 50))
    assert sorted(link(first, second)) == [(0, 1), (1, 2), (2, 0)]


def test_each_object_once_the_surest_first():
    unsure = (0.5, 0.1, 0.4)
    first = strip((unsure, 0, 20), (0, 0, 20))  # two queries on one object
    second = strip((0, 0, 20), (unsure, 0, 20))
    assert sorted(link(first, second)) == [(0, 1), (1, 0)]
    assert link(first, strip((0, 0, 20))) == [(1, 0)]


def test_classes_and_masks_have_to_agree():
    assert link(strip((0, 0, 20)), strip((0, 10, 30))) == [(0, 0)]  # IoU of a third
    assert link(strip((0, 0, 20)), strip((0, 12, 32))) == []  # of a quarter
    assert link(strip((0, 0, 20)), strip((1, 0, 20))) == []
    assert link(strip(((0.29, 0.2, 0.51), 0, 20)), strip((0, 0, 20))) == []  # too unsure


def test_parts_that_the_border_cuts_off():
    whole = (0, 0, 90)
    parts = [(0, 0, 20), (0, 30, 60), (1, 62, 70), (0, 80, 99)]
    for cut, expected in (
        ([True] * 4, [(1, 0), (0, 0)]),  # the third is another class, the last half outside
        ([False] * 4, [(1, 0)]),
    ):
        assert link(strip(*parts, cut=cut), strip(whole)) == expected
        turned = link(strip(whole), strip(*parts, cut=cut))
        assert turned == [(j, i) for i, j in expected]


def test_a_second_view_of_a_part_is_none():
    first = strip((0, 0, 60), (0, 2, 58), cut=[True, True])  # two queries on one object
    assert link(first, strip((0, 0, 62))) == [(0, 0)]


def test_nothing_to_link():
    assert link(strip(), strip((0, 0, 20))) == []
    assert link(strip((0, 5, 5)), strip((0, 0, 20))) == []
    empty = Strip(np.zeros((1, 0, 100), bool), strip((0, 0, 1)).class_probs, np.zeros(1, bool))
    assert link(empty, empty) == []


def test_groups():
    random = np.random.default_rng(0)
    groups, sets = Groups(), [{i} for i in range(60)]
    groups.add(25)
    groups.add(35)
    for i, j in random.integers(0, 60, (40, 2)).tolist():
        groups.join(i, j)
        union = sets[i] | sets[j]
        for k in union:
            sets[k] = union
    numbers = groups.numbers()
    assert len(groups) == len(numbers) == 60
    for i in range(60):
        assert set(np.flatnonzero(numbers == numbers[i]).tolist()) == sets[i]
    firsts = [min(s) for s in sets]
    assert numbers.tolist() == np.unique(firsts, return_inverse=True)[1].tolist()
