"""The export to an ONNX file, again and again: all that touches files, without what takes long."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from detectron2.config import CfgNode

from mask2former.export import export as exporting
from mask2former.export import export_model
from mask2former.export.formats import onnx_format
from mask2former.predict import Predictor
from tests.modeling.small import tiny_model
from tests.runtime.onnx_models import write_model


class Exporter:
    """Exports a tiny model; the graph is one that was made by hand, and not compared with it."""

    def __init__(self, cfg: CfgNode) -> None:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        onnx_ir = pytest.importorskip("onnx_ir", reason="onnx_ir is not installed")
        self.predictor = Predictor.of_model(tiny_model().eval(), cfg)
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder, "a.onnx"))
            graph = onnx_ir.from_proto(onnx_ir.to_proto(onnx_ir.load(Path(folder, "a.onnx"))))
        save = lambda path, **_: onnx_ir.save(graph, path)  # noqa: E731
        self.converted = SimpleNamespace(model=graph, save=save)

    def __call__(self, folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exporting, "trace", lambda *_: SimpleNamespace(state_dict={}))
            patch.setattr(exporting, "check_random", lambda *_: {"logits": 0.0})
            patch.setattr(onnx_format, "_convert", lambda _: self.converted)
            export_model(self.predictor, folder / "model.onnx", overwrite=True)
