"""Real exported files: what the runtime gives of them is what the predictor gives of the model."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install onnxruntime")
pytest.importorskip("onnxscript", reason="onnxscript is missing: pip install onnxscript")

from mask2former.export import export_model
from mask2former.predict import Predictor
from mask2former.runtime import Runtime
from tests.modeling.small import tiny_model
from tests.runtime.exported import PresetModelOfRuntime, config, image
from tests.runtime.test_model import assert_same

pytestmark = pytest.mark.timeout(600)  # tracing takes long beside other work


@pytest.fixture(scope="module")
def pair_of_files(tmp_path_factory) -> tuple[Predictor, str]:
    """The predictor of a model, and the file that it is exported to."""
    model = tiny_model(overlap_threshold=0.1).eval()
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    export_model(model, path, cfg=config())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PresetModelOfRuntime, "model", model)
        return Predictor(config(), "", array_format="RGB"), str(path)


def test_images_of_several_sizes_alone_and_together(pair_of_files):
    predictor, path = pair_of_files
    runtime = Runtime(path)
    images = [image(50, 70), image(64, 40, 1), image(33, 120, 2)]
    for one in images:
        assert_same(runtime(one), predictor(one))
    for found, expected in zip(runtime(images), predictor(images), strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize(
    "changes", [{"pixel_mean": (80.0, 110.0, 120.0)}, {"channel_order": "BGR"}]
)
def test_a_wrong_value_is_seen(pair_of_files, changes):
    predictor, path = pair_of_files
    with pytest.raises(AssertionError):
        assert_same(Runtime(path, **changes)(image(48, 40)), predictor(image(48, 40)))


def test_a_changed_weight_is_noticed(pair_of_files, tmp_path):
    _, path = pair_of_files
    content = bytearray(np.fromfile(path, np.uint8))
    content[len(content) // 2] ^= 1
    (tmp_path / "changed.onnx").write_bytes(content)
    with pytest.raises(ValueError):
        Runtime(tmp_path / "changed.onnx")
