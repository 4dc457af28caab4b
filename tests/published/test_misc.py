"""Batches of maps of several sizes, and the state of distributed training."""

import pytest
import torch

from mask2former.published.misc import is_dist_avail_and_initialized, nested_tensor_from_tensor_list


def test_maps_are_padded_at_the_right_and_at_the_bottom():
    maps = [torch.full((2, 1, 3), 5.0), torch.full((2, 2, 1), 7.0)]
    batch = nested_tensor_from_tensor_list(maps)
    tensors, mask = batch.to("cpu").decompose()
    assert tensors[:, 0].tolist() == [[[5, 5, 5], [0, 0, 0]], [[7, 0, 0], [7, 0, 0]]]
    assert mask.tolist() == [[[False] * 3, [True] * 3], [[False, True, True]] * 2]
    assert torch.equal(tensors[:, 0], tensors[:, 1]) and repr(batch) == repr(tensors)


def test_masks_keep_their_type():
    tensors, _ = nested_tensor_from_tensor_list([torch.ones(1, 2, 2, dtype=torch.bool)]).decompose()
    assert tensors.dtype == torch.bool and tensors.all()


@pytest.mark.parametrize(("maps", "got"), [([], r"\[\]"), ([torch.zeros(2, 2)], r"\[\(2, 2\)\]")])
def test_what_are_no_maps(maps, got):
    with pytest.raises(ValueError, match=rf"expected maps \(C, H, W\), got {got}"):
        nested_tensor_from_tensor_list(maps)


def test_one_process():
    assert is_dist_avail_and_initialized() is False
