"""Point sampling: values worked out by hand, agreement with grid_sample, invariants."""

import pytest
import torch
from torch.nn import functional as F

from mask2former.ops import selection
from mask2former.ops.point_sampling import (
    look_up_masks,
    random_points,
    sample_maps,
    sample_masks,
    take_points,
    uncertain_points,
    values_at,
)

# Centre of a pixel, middle of four, half a pixel outside, a corner of the map.
PLACES = torch.tensor([[0.25, 0.25], [0.5, 0.5], [0.0, 0.25], [1.0, 1.0]])


def test_values_by_hand():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    expected = torch.tensor([[1.0, 2.5, 0.5, 1.0]])
    torch.testing.assert_close(sample_maps(maps, PLACES), expected)
    torch.testing.assert_close(sample_masks(maps.int(), PLACES), expected)


def test_shared_points_equal_own_points():
    maps = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0))
    points = torch.rand(11, 2, generator=torch.Generator().manual_seed(1))
    own = points.expand(3, 11, 2)
    torch.testing.assert_close(sample_maps(maps, points), sample_maps(maps, own))
    masks = maps > 0.5
    torch.testing.assert_close(sample_masks(masks, points), sample_masks(masks, own))


def test_masks_agree_with_grid_sample():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(4, 6, 9, generator=generator) > 0.5
    points = torch.rand(4, 50, 2, generator=generator)
    grid = 2 * points[:, None] - 1
    expected = F.grid_sample(masks[:, None].float(), grid, align_corners=False)[:, 0, 0]
    torch.testing.assert_close(sample_masks(masks, points), expected)


def test_rows_choose_masks():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(4, 6, 9, generator=generator) > 0.5
    points = torch.rand(3, 10, 2, generator=generator)
    rows = torch.tensor([2, 0, 2])
    got = sample_masks(masks, points, rows)
    torch.testing.assert_close(got, sample_masks(masks[rows], points))


def test_look_up_reads_the_pixel_that_holds_the_point():
    masks = torch.tensor([[[True, False], [False, True]], [[False, False], [True, False]]])
    points = torch.tensor([[[0.01, 0.49], [1.0, 1.0]], [[0.49, 0.51], [0.51, 0.49]]])
    expected = [[True, True], [True, False]]
    assert look_up_masks(masks, points).tolist() == expected
    assert look_up_masks(masks, points, torch.tensor([1, 1])).tolist() == [
        [False, False],
        [True, False],
    ]


def test_maps_pass_gradients():
    maps = torch.zeros(1, 2, 2, requires_grad=True)
    sample_maps(maps, torch.tensor([[0.5, 0.5]])).sum().backward()
    torch.testing.assert_close(maps.grad, torch.full((1, 2, 2), 0.25))


def test_a_seed_fixes_its_set_alone():
    device = torch.device("cpu")
    both = random_points(2, 5, device, [3, 4])
    torch.testing.assert_close(random_points(1, 5, device, [4])[0], both[1])
    assert not torch.equal(both[0], both[1])
    assert random_points(0, 5, device).shape == (0, 5, 2)


@pytest.fixture(params=["numpy", "topk"])
def either_selection(request, monkeypatch):
    """Both ways to the smallest values, of which many points take the first."""
    if request.param == "numpy":
        monkeypatch.setattr(selection, "_WORTH_NUMPY", 1)


@pytest.mark.usefixtures("either_selection")
def test_uncertain_points_where_many_are_equal():
    logits = torch.zeros(2, 1, 50)
    logits[0, 0, 7:] = 3.0
    got = uncertain_points(logits, 50, 20)
    assert got.shape == (2, 1, 20)
    assert set(range(7)) < set(got[0, 0].tolist())  # those that are less come first
    assert all(len(set(row.tolist())) == 20 for row in got[:, 0])


@pytest.mark.usefixtures("either_selection")
def test_uncertain_points_among_nan():
    logits = torch.full((1, 1, 30), float("nan"))
    logits[..., 3] = 1.0
    got = uncertain_points(logits, 30, 5)[0, 0].tolist()
    assert len(set(got)) == 5
    assert 3 in got


@pytest.mark.usefixtures("either_selection")
def test_uncertain_points_are_those_nearest_to_zero():
    logits = torch.tensor([[[-5.0, 0.1, 3.0, -1.0, 7.0], [0.2, 9.0, -0.3, 2.0, 8.0]]])
    got = uncertain_points(logits, 4, 2)
    assert got.shape == (1, 2, 3)
    assert [sorted(row[:2]) for row in got[0].tolist()] == [[1, 3], [0, 2]]
    assert (got[0, :, 2] == 4).all()  # is taken as it is


@pytest.mark.usefixtures("either_selection")
def test_points_without_choice():
    got = uncertain_points(torch.randn(2, 3, 10), 6, 0)
    assert (got == torch.arange(6, 10)).all()
    assert sorted(uncertain_points(torch.randn(1, 1, 6), 6, 6).flatten().tolist()) == list(range(6))


def test_take_points():
    points = torch.rand(2, 4, 2, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([[[3, 0], [1, 1], [2, 3]], [[0, 1], [2, 2], [3, 0]]])
    got = take_points(points, index)
    for n in range(2):
        torch.testing.assert_close(got[n], points[n][index[n]])


def test_known_values_have_the_gradient_of_sampling():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    points = torch.rand(3, 11, 2, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, 11, generator=generator, dtype=torch.float64)
    sampled = sample_maps(maps, points)
    (expected,) = torch.autograd.grad((sampled * weights).sum(), maps)
    known = values_at(maps, points, sampled.detach())
    torch.testing.assert_close(known, sampled)
    (got,) = torch.autograd.grad((known * weights).sum(), maps)
    torch.testing.assert_close(got, expected)


def test_maps_that_share_points_of_their_row():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 5, 7, generator=generator)
    points = torch.rand(2, 9, 2, generator=generator)
    expected = torch.stack([sample_maps(maps[:, i], points) for i in range(3)], 1)
    torch.testing.assert_close(sample_maps(maps, points), expected)


@pytest.mark.parametrize("maps", [(1, 11), (2, 25), (3, 20), (1, 1)])
def test_any_number_of_maps_is_read_in_groups(monkeypatch, maps):
    """Of ten at most, and few."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(*maps, 5, 7, generator=generator, requires_grad=True)
    points = torch.rand(len(maps), 9, 2, generator=generator)
    expected = torch.stack(
        [sample_maps(each[:, None], points).squeeze(1) for each in maps.unbind(1)], 1
    )
    sizes = []
    plain = F.grid_sample
    monkeypatch.setattr(
        F, "grid_sample", lambda x, *args, **kw: sizes.append(x.shape[1]) or plain(x, *args, **kw)
    )
    got = sample_maps(maps, points)
    assert max(sizes) <= 10
    assert len(sizes) <= 2
    torch.testing.assert_close(got, expected)
    for a, b in zip(*(torch.autograd.grad(x.square().sum(), maps) for x in (got, expected))):
        torch.testing.assert_close(a, b)


def test_no_maps():
    points = torch.rand(3, 2)
    assert sample_maps(torch.zeros(0, 4, 5), points).shape == (0, 3)
    assert sample_maps(torch.zeros(2, 0, 4, 5), points.expand(2, 3, 2)).shape == (2, 0, 3)
    assert sample_maps(torch.zeros(0, 3, 4, 5), points.expand(0, 3, 2)).shape == (0, 3, 3)


def test_no_masks():
    masks = torch.zeros(0, 5, 7, dtype=torch.bool)
    assert sample_masks(masks, torch.rand(4, 2)).shape == (0, 4)
    assert sample_masks(masks, torch.rand(0, 4, 2)).shape == (0, 4)
