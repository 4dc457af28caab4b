"""Models as files that other programs run: ONNX, PyTorch's own programs, OpenVINO."""

from .export import FORMATS, export_model

__all__ = ["FORMATS", "export_model"]
