"""MLP: values worked out by hand, errors."""

import pytest
import torch

from mask2former.layers import MLP


def test_relu_between_layers_but_not_after_the_last():
    mlp = MLP(1, 2, 1, 2)
    with torch.no_grad():
        mlp.layers[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        mlp.layers[0].bias.zero_()
        mlp.layers[1].weight.copy_(torch.tensor([[-2.0, -3.0]]))
        mlp.layers[1].bias.fill_(1.0)
    out = mlp(torch.tensor([[4.0], [-4.0]]))
    assert out.flatten().tolist() == [-7.0, -11.0]


def test_needs_a_layer():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        MLP(1, 1, 1, 0)
