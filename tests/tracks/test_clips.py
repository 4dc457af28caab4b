"""What a frame shows: masks chosen by hand."""

import numpy as np

from mask2former.tracks.clips import choose_masks


def test_of_masks_that_overlap_the_best_one_is_kept():
    masks = np.zeros((4, 2, 10), bool)
    masks[0, :, :6] = masks[1, :, :5] = masks[3, :, 4:] = True
    scores = (0.5, 0.9, 0.8, 0.7)
    # IoU: 5 of 6 columns for the first two, 2 of 10 for the first and the last.
    assert choose_masks(scores, masks, 1.0) == [0, 1, 3]
    assert choose_masks(scores, masks, 0.84) == [0, 1, 3]
    assert choose_masks(scores, masks, 0.8) == [1, 3]
    assert choose_masks(scores, masks, 0.05) == [1]
