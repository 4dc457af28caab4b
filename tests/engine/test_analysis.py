"""Costs of models: counts worked out by hand, and the published sizes."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mask2former.engine.analysis import costs_table, count_costs, count_parameters
from mask2former.layers import DeformableAttention


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.conv(x).flatten(2).transpose(1, 2)
        query = self.head(pixels)[:, None]
        return F.scaled_dot_product_attention(query, query, query)


def test_costs_by_hand() -> None:
    model = Small()
    macs, activations = count_costs(model, lambda: model(torch.zeros(1, 3, 4, 4)))
    conv, linear, attention = 16 * 8 * 27, 16 * 8 * 5, 2 * 16 * 16 * 5
    assert macs == {"": conv + linear + attention, "conv": conv, "head": linear, "head.0": linear}
    outputs = {"conv": 16 * 8, "head": 16 * 5, "head.0": 16 * 5}
    assert activations == {"": 16 * 8 + 16 * 5 + 16 * 5, **outputs}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_parameters_by_hand() -> None:
    counts = count_parameters(Small())
    assert counts == {"": 224 + 45, "conv": 224, "head": 45, "head.0": 45}


def test_deformable_attention_counts_its_weighted_sums() -> None:
    layer = DeformableAttention(32, num_levels=1, num_heads=4, num_points=2)
    value = torch.zeros(1, 6 * 6, 32)
    reference, position = torch.full((36, 2), 0.5), torch.zeros(36, 32)
    macs, _ = count_costs(layer, lambda: layer(value, position, reference, value, [(6, 6)]))
    linear = 36 * 32 * (2 * 4 * 2 + 4 * 2 + 32 + 32)  # offsets, weights, values, output
    # 36 queries, 4 heads, 2 points of 4 pixels each, 8 channels a head
    assert macs[""] == linear + 36 * 4 * 2 * 4 * 8


def test_table_lists_modules_in_their_order() -> None:
    text = costs_table({"": 3_000_000, "b": 2_000_000, "b.c": 1_500_000, "a": 1_000_000}, depth=1)
    assert text.splitlines() == [
        "model        3.000",
        "  b          2.000",
        "  a          1.000",
    ]
    assert costs_table({}) == ""


@pytest.mark.parametrize("outputs", [(), (1,)])
def test_what_counts_nothing_gives_nothing(outputs: tuple) -> None:
    assert count_costs(nn.Identity(), lambda: outputs) == ({}, {})
