"""Traces of models: what their graphs are made of."""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mask2former.export.graphs import graph_class
from mask2former.export.preparation import prepare
from mask2former.export.program import trace
from mask2former.layers.window_attention import WindowAttention
from tests.modeling.small import tiny_model, tiny_video_model


def most_axes(program: ExportedProgram) -> int:
    values = [node.meta.get("val") for node in program.graph.nodes]
    lists = [v if isinstance(v, list | tuple) else [v] for v in values]
    return max(v.dim() for some in lists for v in some if isinstance(v, Tensor))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(tiny_model, id="image"),
        pytest.param(tiny_video_model, id="clip", marks=pytest.mark.slow),
    ],
)
def test_tensors_have_five_axes_at_most(make) -> None:
    """More are too many for Core ML and the like."""
    model = prepare(make())
    assert most_axes(trace(graph_class(model)(model), torch.float32)) == 5


@pytest.mark.slow
@torch.no_grad()
def test_gathers_in_place_of_grid_sample() -> None:
    model = prepare(tiny_model())
    layer = model.sem_seg_head.pixel_decoder.transformer.encoder.layers[0].self_attn
    nn.init.uniform_(layer.sampling_offsets.bias, -2, 2)
    graph = graph_class(model)(model)
    program = trace(graph, torch.float32, "gather")
    assert most_axes(program) == 5
    assert not any("grid_sample" in str(node.target) for node in program.graph.nodes)
    for shape in ((1, 3, 64, 96), (3, 3, 128, 32)):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 255
        found = program.module(check_guards=False)(images)
        torch.testing.assert_close(found, graph(images), rtol=1e-4, atol=1e-4)


def test_windows_have_five_axes_at_most() -> None:
    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.shifted = WindowAttention(8, 4, 2), WindowAttention(8, 4, 2, shift=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.shifted(self.plain(x))

    sides = {1: 4 * Dim("rows"), 2: 4 * Dim("columns")}
    example, model = torch.rand(2, 12, 20, 8), Blocks().eval()
    program = torch.export.export(model, (example,), dynamic_shapes=(sides,), strict=False)
    assert most_axes(program) == 5
    torch.testing.assert_close(program.module()(example), model(example))
