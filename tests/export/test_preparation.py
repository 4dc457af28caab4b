"""What is done to models before they are traced."""

import importlib

import pytest
import torch

from mask2former.export.preparation import fixed_same_padding


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
    with fixed_same_padding():
        assert convolution.pad_same is not own
        for layer, result in zip(layers, expected):
            torch.testing.assert_close(layer(x), result)
    assert convolution.pad_same is own
