"""Boxes and resizing: values worked out by hand, edges."""

import torch

from mask2former.ops.masks import cells_inside, mask_boxes, resize


def test_boxes_by_hand():
    masks = torch.zeros(3, 4, 6, dtype=torch.bool)
    masks[0, 1, 2] = True  # one pixel
    masks[1, 0, 5] = masks[1, 3, 1] = True  # two corners
    expected = torch.tensor([[2.0, 1, 3, 2], [1, 0, 6, 4], [0, 0, 0, 0]])
    torch.testing.assert_close(mask_boxes(masks), expected)


def test_no_mask_has_no_box():
    assert mask_boxes(torch.zeros(0, 4, 6, dtype=torch.bool)).shape == (0, 4)


def test_resize_by_hand():
    maps = torch.tensor([[[0.0, 4.0]]])
    # Centres of the new pixels lie at -0.25 (clamped), 0.25, 0.75 and 1.25 (clamped) of the old.
    torch.testing.assert_close(resize(maps, (1, 4)), torch.tensor([[[0.0, 1.0, 3.0, 4.0]]]))
    assert resize(maps, (1, 2)) is maps


def test_cells_inside_by_hand():
    coverage = torch.tensor([[1.0, 0.5, 0.49, 0.0], [0.1, 0.05, 0.04, 0.0], [0.0, 0.0, 0.0, 0.0]])
    t, f = True, False
    expected = torch.tensor([[t, t, f, f], [t, t, f, f], [t, t, t, t]])
    assert torch.equal(cells_inside(coverage), expected)
