"""Prompts for SAM: checks with their messages, the grid by hand."""

import pytest
import torch

from mask2former.modeling.mask_classifier import SamPrompts

SIZE = (40, 56)


@pytest.mark.parametrize("point", [(56, 3), (-0.5, 3), (3, 40), (3, -1), (float("nan"), 3)])
def test_points_outside_of_the_image(point: tuple[float, float]):
    prompts = SamPrompts(points=[(3, 3), point])
    with pytest.raises(ValueError, match=r"the point \S+ lies outside .* 56 wide and 40 high"):
        prompts.check(SIZE)


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 57, 5), (0, 0, 5, 41), (50, 30, 90, 90)])
def test_boxes_outside_of_the_image(box: tuple[float, ...]):
    with pytest.raises(ValueError, match=r"the box \S+ does not lie inside .* 56 wide"):
        SamPrompts(boxes=[box]).check(SIZE)


@pytest.mark.parametrize("box", [(5, 0, 5, 5), (9, 0, 5, 5), (0, 7, 5, 7)])
def test_boxes_without_area(box: tuple[float, ...]):
    with pytest.raises(ValueError, match=r"has no area: expected x0,y0,x1,y1"):
        SamPrompts(boxes=[box]).check(SIZE)


def test_prompts_up_to_the_border_are_fine():
    SamPrompts(points=[(0, 0), (55.9, 39.9)], boxes=[(0, 0, 56, 40)]).check(SIZE)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"points": [(1, 2, 3)]}, r"points have 2 numbers each, got \[1, 2, 3\]"),
        ({"boxes": [(1, 2)]}, r"boxes have 4 numbers each, got \[1, 2\]"),
        ({"grid": 0}, "a grid of 1 or more points"),
        ({"min_iou": 1.5}, r"in 0 to 1, got 32 and \(1.5, 0.95, 0.7\)"),
        ({"max_overlap": -0.1}, "in 0 to 1"),
    ],
)
def test_arguments_that_make_no_sense(args: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SamPrompts(**args)


def test_grid_by_hand():
    points = SamPrompts(grid=2).grid_points(SIZE)
    expected = torch.tensor([[14.0, 10.0], [42.0, 10.0], [14.0, 30.0], [42.0, 30.0]])
    torch.testing.assert_close(points, expected)
    assert SamPrompts(grid=2).automatic
    assert not SamPrompts(points=[(1, 1)]).automatic
