@pytest.mark.parametrize("size", [(32, 64), (96, 32)])
def test_same_padding_of_timm_is_fixed_and_right_for_multiples_of_the_stride(size):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    x = torch.randn(1, 3, *size)
    layers = [
        timm.layers.Conv2dSame(3, 2, kernel, stride, dilation=dilation)
        for kernel in (1, 3, 5)
        for stride in (1, 2, 4)
        for dilation in (1, 2)
    ]
    layers.append(timm.layers.pool2d_same.MaxPool2dSame(3, 2))
    own = timm.layers.conv2d_same.pad_same
    expected = [layer(x) for layer in layers]
    with fixed_same_padding():
        assert timm.layers.conv2d_same.pad_same is not own
        for layer, result in zip(layers, expected):
            torch.testing.assert_close(layer(x), result)
    assert timm.layers.conv2d_same.pad_same is own
