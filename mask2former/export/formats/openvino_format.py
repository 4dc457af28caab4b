"""OpenVINO's files: a description (.xml), and the weights (.bin) beside it."""

import tempfile
from pathlib import Path

import torch
from torch.export import ExportedProgram

from ...errors import MissingPackageError
from ...runtime.metadata import KEY, Metadata
from ..graphs import Graph
from . import onnx_format


def require() -> None:
    """Raise a MissingPackageError that says what to install, unless all is there."""
    onnx_format.require()
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "to write OpenVINO's files, install openvino: pip install mask2former[openvino]"
        ) from error


def write(program: ExportedProgram, graph: Graph, path: Path) -> None:
    """Convert a program by way of ONNX, without metadata; weights stay float32."""
    source = path.with_suffix(".onnx")
    onnx_format.write(program, graph, source)
    convert(source, path)
    source.unlink()


def convert(source: Path, path: Path) -> None:
    """Write an ONNX file as OpenVINO's files."""
    import openvino

    openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)


def finish(path: Path, metadata: Metadata) -> None:
    """Put metadata into a written description, as runtime information of the model."""
    import openvino

    model = openvino.Core().read_model(path).clone()
    model.set_rt_info(metadata.to_json(), [KEY])
    # The weights are mapped into memory: written over in place, they would be gone while read.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        described = Path(folder, path.name)
        openvino.save_model(model, described, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):
            described.with_suffix(suffix).replace(path.with_suffix(suffix))


def open_file(path: Path, precision: str = "f32") -> onnx_format.Run:
    """Return a function from arrays, one an input, to the list of outputs, on the CPU.

    Args:
        precision: "f32", or "bf16" where the processor has it.
    """
    import openvino

    config = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.Core().compile_model(path, "CPU", config)
    return lambda *inputs: [x.copy() for x in compiled(list(inputs)).values()]
