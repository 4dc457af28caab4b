"""Traces of models in which batch, height and width stay symbols."""

import logging
import warnings

import torch
from torch.export import Dim, ExportedProgram

from ..errors import UnsupportedError
from ..ops.deform_attn import use_implementation
from .graphs import Graph
from .preparation import timm_of_any_size, without_stack_traces, without_switches

logger = logging.getLogger(__name__)


def trace(graph: Graph, dtype: torch.dtype, attention: str = "auto") -> ExportedProgram:
    """Record a graph for any batch, height and width.

    Args:
        graph: of a prepared model.
        dtype: of the images, float32 or uint8.
        attention: how deformable attention is computed, see `ops.deform_attn`; "auto" is
            grid_sample, which other runtimes know.

    Raises:
        UnsupportedError: the model cannot be traced; says why.
    """
    try:
        with (
            torch.no_grad(),
            use_implementation(attention),
            timm_of_any_size(),
            without_stack_traces(),
            without_switches(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            program = torch.export.export(
                graph, graph.example(dtype), dynamic_shapes=_dynamic_shapes(graph), strict=False
            )
    except Exception as error:  # whatever a part from elsewhere does, under PyTorch's own names
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UnsupportedError(
            f"{type(graph.model).__name__} cannot be exported: torch.export does not take a part "
            f"of it ({type(error).__name__}: {first})"
        ) from error
    parts = (m for m in program.graph_module.modules() if isinstance(m, torch.fx.GraphModule))
    for node in (node for part in parts for node in part.graph.nodes):
        node.meta.pop("stack_trace", None)  # has paths of this machine
    return program


def _dynamic_shapes(graph: Graph) -> tuple[dict[int, Dim], ...]:
    """Return symbols for the axes of any length; sides are a symbol times the divisibility, known
    from the start, so that no map's size needs rounding."""
    names = {name for axes in graph.input_axes for name in axes.values()}
    symbols = {name: Dim(name) for name in sorted(names)}
    for side in ("height", "width"):
        symbols[side] = graph.divisibility * Dim(f"{side}_cells")
    return tuple({i: symbols[name] for i, name in axes.items()} for axes in graph.input_axes)
