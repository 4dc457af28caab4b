"""ONNX files: conversion, names of inputs and outputs, running."""

import logging
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from ...errors import MissingPackageError, UnsupportedError
from ...runtime import metadata as runtime_metadata
from ..graphs import Axes, Graph
from ..preparation import without_stack_traces

# The lowest that torch.onnx writes. Its GridSample is the 4-D "bilinear" one, which runtimes know.
OPSET = 18
SCOPE_KEY = "pkg.torch.onnx.name_scopes"  # of the modules that a node comes from
_MAX_BYTES = 2**31 - 2**20  # of a protobuf message
_INSTALL = "pip install mask2former[export]"

Run = Callable[..., list[np.ndarray]]


def require() -> None:
    """Raise a MissingPackageError that says what to install, unless all is there."""
    missing = [x for x in ("onnx", "onnxscript", "onnxruntime") if find_spec(x) is None]
    if missing:
        raise MissingPackageError(
            f"to write ONNX files and check them, install {', '.join(missing)}: {_INSTALL}"
        )


def write(program: ExportedProgram, graph: Graph, path: Path) -> None:
    """Write a program as an ONNX file, without metadata.

    Raises:
        UnsupportedError: an operator that ONNX has not, or a model above 2 GB.
    """
    size = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    if size > _MAX_BYTES:
        raise UnsupportedError(
            f"the model has {size / 2**30:.1f} GB of weights, an ONNX file takes up to 2 GB: "
            "choose the format pt2"
        )
    converted = _convert(program)
    _rename(converted.model.graph.inputs, graph.input_names, graph.input_axes)
    _rename(converted.model.graph.outputs, graph.output_names, graph.output_axes)
    for node in converted.model.graph:  # torch.onnx notes also paths of this machine
        scope = node.metadata_props.get(SCOPE_KEY)
        node.metadata_props.clear()
        if scope:
            node.metadata_props[SCOPE_KEY] = scope
    converted.save(path, external_data=False)


def _convert(program: ExportedProgram) -> Any:
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        with without_stack_traces(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(
                program, (), dynamo=True, opset_version=OPSET, optimize=False, verbose=False
            )
    except torch.onnx.errors.OnnxExporterError as error:
        first = str(error).strip().splitlines()[0]
        raise UnsupportedError(f"the model cannot be written as ONNX: {first}") from error
    _simplify(converted.model)
    return converted


def _simplify(model: Any) -> None:
    """Fold constants, and leave out what is unused or there twice.

    PyTorch's own optimization looks for patterns, too, for which it compares every operator with
    all others: for minutes, and for what the programs that run the file do themselves.
    """
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants_ir

    common.InlinePass()(model)
    fold_constants_ir(model)
    for simplify in (
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        simplify(model)


def _rename(values: Any, names: tuple[str, ...], axes: tuple[Axes, ...]) -> None:
    import onnx_ir

    for value, name, named in zip(values, names, axes):
        value.name = name
        value.shape = onnx_ir.Shape(
            [onnx_ir.SymbolicDim(named[i]) if i in named else n for i, n in enumerate(value.shape)]
        )


def finish(path: Path, metadata: runtime_metadata.Metadata) -> None:
    """Put metadata into a written file."""
    runtime_metadata.write(path, metadata)


def open_file(path: Path) -> Run:
    """Return a function from arrays, one an input, to the list of outputs, on the CPU.

    Raises:
        MissingPackageError: onnxruntime is missing.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(f"to run ONNX files, install onnxruntime: {_INSTALL}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs)))
