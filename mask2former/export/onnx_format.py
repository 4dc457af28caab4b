"""ONNX files: conversion, names of inputs and outputs, running."""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from ..errors import MissingPackageError, UnsupportedError
from ..runtime import metadata as runtime_metadata
from .graphs import Axes, Graph

# The lowest that torch.onnx writes. Its GridSample is the 4-D "bilinear" one, which runtimes know.
OPSET = 18
_MAX_BYTES = 2**31 - 2**20  # of a protobuf message
_INSTALL = "pip install mask2former[export]"

Run = Callable[..., list[np.ndarray]]


def require() -> None:
    """Raise a MissingPackageError that says what to install, unless all is there."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            f"to write ONNX files, install {error.name}: {_INSTALL}"
        ) from error


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
    converted.save(path, external_data=False)


def _convert(program: ExportedProgram) -> Any:
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                program, (), dynamo=True, opset_version=OPSET, optimize=True, verbose=False
            )
    except torch.onnx.errors.OnnxExporterError as error:
        first = str(error).strip().splitlines()[0]
        raise UnsupportedError(f"the model cannot be written as ONNX: {first}") from error


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
