"""Sessions of onnxruntime: results of a model made by hand, providers, files that are refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime is missing: pip install onnxruntime")

from mask2former.runtime import Runtime
from tests.runtime.onnx_models import halves, write_model


@pytest.fixture
def path(tmp_path) -> Path:
    write_model(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("dtype", ["FLOAT", "UINT8"])
def test_a_model_made_by_hand(tmp_path, dtype):
    write_model(tmp_path / "model.onnx", dtype=dtype)
    first, second = Runtime(tmp_path / "model.onnx", semantic_output="labels")(
        [halves(), halves(50, 70)]
    )
    for result, (height, width) in ((first, (64, 96)), (second, (50, 70))):
        ids, segments = result["panoptic_seg"]
        assert segments == [
            {"id": 1, "isthing": True, "category_id": 0},
            {"id": 2, "isthing": False, "category_id": 1},
        ]
        assert ids.shape == (height, width)
        assert (ids[:, : width // 2 - 4] == 1).all() and (ids[:, width // 2 + 4 :] == 2).all()
        labels = result["sem_seg"]
        assert (labels[:, : width // 2 - 4] == 0).all() and (labels[:, width // 2 + 4 :] == 1).all()
        (score,) = result["instances"].scores
        assert 0.9 < score < 1  # e^9 / (e^9 + 2), times sigmoid(8) and less at the margin
        x0, y0, x1, y1 = result["instances"].pred_boxes[0]
        assert (x0, y0, y1) == (0, 0, height) and abs(x1 - width // 2) <= 4


def test_other_channel_order(tmp_path):
    write_model(tmp_path / "model.onnx", channel_order="BGR")
    labels = Runtime(tmp_path / "model.onnx", semantic_output="labels")(halves())["sem_seg"]
    assert (labels[:, :40] == 1).all() and (labels[:, 56:] == 0).all()


def test_providers(path):
    import onnxruntime

    available = onnxruntime.get_available_providers()
    assert set(Runtime(path).providers) <= set(available)
    for wanted in (["CPUExecutionProvider"], [("CPUExecutionProvider", {})]):
        assert Runtime(path, providers=wanted, threads=1).providers == ["CPUExecutionProvider"]
    for wanted in (["NoSuchProvider"], [("NoSuchProvider", {})], []):
        with pytest.raises(ValueError, match="expected some of .*CPUExecutionProvider.*, which"):
            Runtime(path, providers=wanted)


def test_files_that_cannot_be_run(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(FileNotFoundError, match=r"model\.onnx"):
        Runtime(path)
    write_model(path, names={"mask_logits": "masks"})
    message = "expected the inputs and outputs images -> class_logits, mask_logits, got images -> "
    with pytest.raises(ValueError, match=message):
        Runtime(path)
    write_model(path, kind="per_pixel")
    with pytest.raises(ValueError, match="images -> semantic_logits, got images -> class_logits"):
        Runtime(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"AveragePool") + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the file is not what was exported"):
        Runtime(path)
    with pytest.raises(ValueError, match="onnxruntime cannot run this file"):
        Runtime(path, verify=False)


def test_a_file_of_somebody_else(tmp_path):
    onnx = pytest.importorskip("onnx")
    write_model(tmp_path / "ours.onnx")
    model = onnx.load(tmp_path / "ours.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "theirs.onnx")
    message = r"theirs\.onnx: expected an ONNX file of `python -m mask2former\.export`, this one"
    with pytest.raises(ValueError, match=message):
        Runtime(tmp_path / "theirs.onnx")


ALONE = """
import sys
import mask2former.runtime
import mask2former.runtime.command
from mask2former.runtime import Runtime
result = Runtime(sys.argv[1])(sys.argv[2])
result["instances"].rles()
mask2former.runtime.command.main([*sys.argv[1:3], "--output", sys.argv[3], "--save-json"])
print(sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names))
"""


def test_neither_torch_nor_detectron2_is_loaded(path, tmp_path):
    from PIL import Image

    Image.fromarray(halves()).save(tmp_path / "photo.png")
    arguments = [str(path), str(tmp_path / "photo.png"), str(tmp_path / "drawn")]
    found = subprocess.run(
        [sys.executable, "-c", ALONE, *arguments], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    loaded = found.stdout.splitlines()[-1]
    for name in ("torch", "detectron2", "cv2", "pycocotools", "scipy", "matplotlib", "yaml"):
        assert f"'{name}'" not in loaded
    assert "1 of 1 images drawn" in found.stdout
    assert {p.name for p in (tmp_path / "drawn").iterdir()} >= {"index.html", "panoptic.json"}
    assert np.asarray(Image.open(tmp_path / "drawn" / "photo_prediction.jpg")).shape[2] == 3
