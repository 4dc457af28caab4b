"""PyTorch's own files: programs, and programs that AOTInductor compiles for this kind of CPU."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from ...errors import UserError
from ...runtime.metadata import KEY, Metadata
from ..graphs import Graph
from .onnx_format import Run


def require() -> None:
    """Need nothing that is not there."""


def write_program(program: ExportedProgram, graph: Graph, path: Path) -> None:
    """Save a program, without metadata."""
    torch.export.save(program, path)


def open_program(path: Path) -> Run:
    """Return a function from arrays, one an input, to the list of outputs."""
    # The guards are about layouts in memory, which for a few sizes others would suit.
    return _on_arrays(torch.export.load(path).module(check_guards=False))


def write_compiled(program: ExportedProgram, graph: Graph, path: Path) -> None:
    """Compile a program and save it, without metadata.

    Raises:
        UserError: it could not be compiled.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    except Exception as error:  # whatever the compiler raises
        first = (str(error).strip().splitlines() or [""])[0]
        raise UserError(
            f"AOTInductor could not compile the model ({type(error).__name__}: {first}); it needs "
            "a C++ compiler, such as g++"
        ) from error


def open_compiled(path: Path) -> Run:
    """Return a function from arrays, one an input, to the list of outputs."""
    return _on_arrays(torch._inductor.aoti_load_package(str(path)))


def finish(path: Path, metadata: Metadata) -> None:
    """Add metadata to a written file, as `torch.export.save` stores extra files."""
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{folder}/extra/{KEY}", metadata.to_json())


def _on_arrays(module: Any) -> Run:
    @torch.no_grad()
    def run(*inputs: np.ndarray) -> list[np.ndarray]:
        outputs = module(*map(torch.from_numpy, inputs))
        return [x.numpy() for x in (outputs if isinstance(outputs, tuple | list) else [outputs])]

    return run
