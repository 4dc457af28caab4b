"""Run exported models with numpy, Pillow and onnxruntime alone: see docs/export.md."""

from .metadata import Metadata
from .model import Runtime
from .postprocessing.instances import Instances
from .tiled import TiledRuntime

__all__ = ["Instances", "Metadata", "Runtime", "TiledRuntime"]
