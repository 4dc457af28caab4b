"""Annealing of EoMT's masks: the schedule by hand, in training, resumed, and turned off."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from torch import nn

from mask2former.engine.mask_annealing import MaskAnnealing, has_masks, mask_probs

pytest.importorskip("timm")
from tests.modeling.small_eomt import eomt_model  # needs timm


def test_schedule_by_hand():
    """Two blocks, so four parts."""
    assert mask_probs(0.0, 2) == mask_probs(0.25, 2) == [1.0, 1.0]
    assert mask_probs(0.375, 2) == [pytest.approx(0.5**0.9), 1.0]
    assert mask_probs(0.5, 2) == [0.0, 1.0]
    assert mask_probs(0.625, 2) == [0.0, pytest.approx(0.5**0.9)]
    assert mask_probs(0.75, 2) == mask_probs(1.0, 2) == mask_probs(1.5, 2) == [0.0, 0.0]


@pytest.mark.parametrize("num_blocks", [1, 3, 4])
def test_probabilities_fall_block_by_block(num_blocks):
    steps = [mask_probs(i / 100, num_blocks) for i in range(101)]
    assert steps[0] == [1.0] * num_blocks and steps[-1] == [0.0] * num_blocks
    for before, after in pairwise(steps):
        assert all(a <= b for a, b in zip(after, before))
        assert after == sorted(after)


def test_the_hook_sets_them_by_iteration_whatever_was_before():
    model = eomt_model()
    hook = MaskAnnealing()
    hook.trainer = SimpleNamespace(model=nn.Sequential(model), iter=6, max_iter=8)
    hook.before_step()  # as of a run that is resumed here
    assert model.sem_seg_head._probs == model.sem_seg_head.attn_mask_probs.tolist() == [0.0, 0.0]
    hook.trainer.iter = 3
    hook.before_step()
    assert model.sem_seg_head._probs == [pytest.approx(0.5**0.9), 1.0]
    hook.after_step()  # what a checkpoint says belongs to the next iteration
    assert model.sem_seg_head._probs == [0.0, 1.0]
    assert has_masks(model) and not has_masks(model.backbone)
