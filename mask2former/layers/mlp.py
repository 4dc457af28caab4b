"""The small fully connected networks that turn query features into embeddings."""

from itertools import pairwise

from torch import Tensor, nn

from .linear import linear_of, relu_of


class MLP(nn.Module):
    """Linear layers with a ReLU between them and none after the last.

    Source: DETR, Carion et al. 2020, section 3.2 (prediction feed-forward networks).

    Args:
        input_dim: channels that come in.
        hidden_dim: channels between layers.
        output_dim: channels that go out.
        num_layers: number of linear layers, at least 1.
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int, num_layers: int):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"MLP: num_layers must be at least 1, got {num_layers}.")
        dims = [input_dim] + [hidden_dim] * (num_layers - 1) + [output_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., input_dim) to (..., output_dim)."""
        for layer in self.layers[:-1]:
            x = relu_of(layer, x)
        return linear_of(self.layers[-1], x)
