"""What is done to models before they are traced."""

import importlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mask2former.export.preparation import prepare, timm_of_any_size, without_switches


@pytest.mark.parametrize("size", [(32, 64), (96, 32)])
def test_same_padding_of_timm_is_fixed_and_right_for_multiples_of_the_stride(size):
    pytest.importorskip("timm", reason="timm is not installed")
    convolution = importlib.import_module("timm.layers.conv2d_same")
    pool = importlib.import_module("timm.layers.pool2d_same")
    x = torch.randn(1, 3, *size)
    layers = [
        convolution.Conv2dSame(3, 2, kernel, stride, dilation=dilation)
        for kernel in (1, 3, 5)
        for stride in (1, 2, 4)
        for dilation in (1, 2)
    ]
    layers.append(pool.MaxPool2dSame(3, 2))
    own = convolution.pad_same
    expected = [layer(x) for layer in layers]
    with timm_of_any_size():
        assert convolution.pad_same is not own
        for layer, result in zip(layers, expected):
            torch.testing.assert_close(layer(x), result)
    assert convolution.pad_same is own


def test_what_works_in_place_does_not_in_the_copy():
    model = torch.nn.Sequential(torch.nn.ReLU6(inplace=True))
    assert not prepare(model)[0].inplace
    assert model[0].inplace


def test_switches_do_nothing_in_this_thread_alone():
    def states() -> tuple[bool, bool]:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            return torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")

    with without_switches(), ThreadPoolExecutor(1) as pool:
        assert states() == (True, False)
        assert pool.submit(states).result() == (False, True)
    assert states() == (False, True)
