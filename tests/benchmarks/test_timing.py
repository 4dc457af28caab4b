"""Timing: what is called when, and what is made of the numbers, by hand."""

import pytest

from benchmarks import timing


def test_calls_take_turns():
    calls = []
    times = timing.time_in_turn([lambda: calls.append("a"), lambda: calls.append("b")], 3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"  # once for nothing, then in changing order
    assert [len(t) for t in times] == [3, 3]


def test_ratio_is_the_median_over_pairs(monkeypatch):
    # Pairs (ours, peer): ratios 2, 3 and 10; that of the medians would be 4.
    taken = {"ours": iter([1.0, 2.0, 1.0]), "peer": iter([2.0, 6.0, 10.0])}
    monkeypatch.setattr(timing, "seconds", lambda work: next(taken[work.__name__]))

    def ours():
        pass

    def peer():
        pass

    row = timing.compare("what", ours, peer, 3, peer_name="p", min_ratio=2.0)
    assert row["ratio"] == 3.0
    assert (row["ours"], row["peer"], row["rounds"], row["min_ratio"]) == (1.0, 6.0, 3, 2.0)


def test_slope_of_a_power_law():
    xs = [1.0, 2.0, 5.0]
    assert timing.slope(xs, [3 * x**1.5 for x in xs]) == pytest.approx(1.5)


@pytest.mark.parametrize(("xs", "ys"), [([1], [1]), ([1, 2], [1]), ([1, 2], [1, 0])])
def test_slope_needs_two_positive_points(xs, ys):
    with pytest.raises(ValueError, match="two or more positive"):
        timing.slope(xs, ys)
