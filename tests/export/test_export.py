"""Exported files against the models, in the programs that run them."""

import dataclasses
import json
import shutil
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from mask2former.config import get_config
from mask2former.export import FORMATS, export_model
from mask2former.export.command import main
from mask2former.export.formats.onnx_format import open_file
from mask2former.export.formats.torch_formats import open_program
from mask2former.export.graphs import ClipGraph, ImageGraph
from mask2former.export.parity import (
    MAX_LOGIT_DIFFERENCE,
    check_photos,
    largest_difference,
    prepare_photos,
    require_parity,
)
from mask2former.export.quantization import scope_of
from mask2former.predict import Predictor
from mask2former.runtime import Runtime
from mask2former.runtime import metadata as runtime_metadata
from tests.modeling.small import NUM_CLASSES, NUM_QUERIES, tiny_model, tiny_video_model
from tests.runtime.test_model import assert_same

pytestmark = pytest.mark.timeout(600)  # tracing takes long beside other work

UNTRACED = [(1, 64, 96), (3, 128, 64), (1, 256, 320), (3, 64, 96)]


def config():
    cfg = get_config()
    cfg.merge_from_list(["INPUT.FORMAT", "RGB", "INPUT.MIN_SIZE_TEST", 64])
    return cfg


def pictures(batch: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch * height + width)
    coarse = torch.rand(batch, 3, 8, 8, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(
        0, 255
    )


def rectified_model():
    """A tiny model in which mean and scale of the images matter: its norms do not undo them."""
    model = tiny_model(overlap_threshold=0.1).eval()
    stages = model.backbone.stages
    for i, stage in enumerate(stages):
        stages[i] = torch.nn.Sequential(stage, torch.nn.ReLU())
    return model


@pytest.fixture(scope="module")
def model():
    return rectified_model()


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    export_model(model, path, cfg=config())
    return path


@torch.no_grad()
def difference(model, path, shape, opened=open_file, graph=ImageGraph) -> float:
    images = pictures(*shape)
    return largest_difference(opened(path)(images.numpy()), graph(model)(images))


@pytest.mark.parametrize("shape", UNTRACED)
def test_onnx_file_computes_the_model_at_sizes_that_were_not_traced(model, onnx_file, shape):
    assert difference(model, onnx_file, shape) < 1e-5


def test_inputs_and_outputs_have_names_and_free_axes(onnx_file):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession(onnx_file)
    (images,) = session.get_inputs()
    assert (images.name, images.shape) == ("images", ["batch", 3, "height", "width"])
    outputs = {x.name: x.shape for x in session.get_outputs()}
    assert outputs == {
        "class_logits": ["batch", NUM_QUERIES, NUM_CLASSES + 1],
        "mask_logits": ["batch", NUM_QUERIES, "height/4", "width/4"],
    }


def test_files_hold_no_paths_of_the_machine_that_made_them(onnx_file):
    content = onnx_file.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in content
    assert b"site-packages" not in content


def test_metadata_say_what_a_runtime_needs(model, onnx_file):
    found = runtime_metadata.read(onnx_file)
    assert (found.kind, found.channel_order, found.min_size) == ("image", "RGB", 64)
    assert found.pixel_mean == (100.0, 110.0, 120.0)
    assert found.size_divisibility == 32
    assert found.class_names == ("0", "1", "2")
    assert found.thing_ids == (0, 2)
    assert (found.panoptic_on, found.overlap_threshold, found.topk) == (True, 0.1, 5)
    assert found.parity["logits"] < 1e-5
    assert found.versions["torch"] == version("torch")


def test_a_changed_file_is_noticed(onnx_file, tmp_path):
    content = bytearray(onnx_file.read_bytes())
    content[len(content) // 3] ^= 1
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(content)
    with pytest.raises(ValueError, match="changed.onnx"):
        runtime_metadata.read(changed)


@pytest.mark.parametrize("fault", ["mean", "channels"])
def test_controls_fail_the_same_check(onnx_file, fault):
    """The file of one model does not pass for a model that differs in what parity is about."""
    other = rectified_model()
    if fault == "mean":
        other.pixel_mean += 20
    run = open_file(onnx_file)
    images = pictures(1, 64, 96)
    given = images.flip(1) if fault == "channels" else images
    with torch.no_grad():
        worst = largest_difference(run(given.numpy()), ImageGraph(other)(images))
    assert worst > MAX_LOGIT_DIFFERENCE
    with pytest.raises(ValueError, match="differs from the model: logits"):
        require_parity({"logits": worst}, "tiny.onnx")


def test_photos_are_compared_down_to_results(model, onnx_file):
    predictor = Predictor.of_model(model, config())
    photos = [pictures(1, 90, 70)[0].permute(1, 2, 0).numpy().astype(np.uint8)]
    graph, run = ImageGraph(model), open_file(onnx_file)
    prepared = prepare_photos(predictor, graph, photos)
    found = check_photos(predictor, graph, run, prepared, torch.float32)
    assert found["photos"] == 1
    assert found["logits"] < 1e-5
    assert found["panoptic_pixels"] <= 1e-3
    assert found["semantic_pixels"] <= 1e-3


def test_runtime_gives_what_the_predictor_does(model, onnx_file):
    """Photos that are neither of the model's size nor multiples of its divisibility."""
    sizes = ((90, 70), (75, 100), (33, 120))
    photos = [pictures(1, *s)[0].permute(1, 2, 0).numpy().astype(np.uint8) for s in sizes]
    predictor = Predictor.of_model(model, config())
    predictor.array_format = "RGB"
    runtime = Runtime(onnx_file)
    for found, expected in zip(runtime(photos), predictor(photos), strict=True):
        assert_same(found, expected)
    alone = predictor(photos[0])
    assert_same(runtime(photos[0]), alone)
    for wrong in ({"pixel_mean": (80.0, 110.0, 120.0)}, {"channel_order": "BGR"}):
        with pytest.raises(AssertionError):
            assert_same(Runtime(onnx_file, **wrong)(photos[0]), alone)


@pytest.mark.slow
def test_program_of_pytorch_computes_the_model_and_holds_the_metadata(model, tmp_path):
    path = tmp_path / "tiny.pt2"
    written = export_model(model, path, "pt2", cfg=config())
    assert difference(model, path, (3, 128, 64), open_program) < 1e-5
    with zipfile.ZipFile(path) as archive:
        (name,) = [x for x in archive.namelist() if x.endswith("extra/mask2former")]
        assert json.loads(archive.read(name))["size_divisibility"] == written.size_divisibility
        assert not any(b"site-packages" in archive.read(x) for x in archive.namelist())
    extra = {"mask2former": ""}
    torch.export.load(path, extra_files=extra)
    assert json.loads(extra["mask2former"])["kind"] == "image"


@pytest.mark.slow
@pytest.mark.parametrize("frames", [2, 5])
def test_clips_of_any_length(frames, tmp_path):
    model = tiny_video_model().eval()
    path = tmp_path / "clip.pt2"
    found = export_model(model, path, "pt2", cfg=config())
    assert found.kind == "clip"
    assert found.names[1] == ("class_logits", "mask_logits", "embeddings")
    assert difference(model, path, (frames, 64, 128), open_program, ClipGraph) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["semantic", "panoptic", "instance"])
def test_results_from_the_graph_in_onnx(kind, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model, path = rectified_model(), tmp_path / "one.onnx"
    found = export_model(model, path, cfg=config(), postprocess=kind)
    assert found.postprocess == kind
    assert found.parity["pixels"] <= 1e-3
    predictor = Predictor.of_model(model, config())
    predictor.array_format = "RGB"
    photo = pictures(1, 64, 96)[0].permute(1, 2, 0).numpy().astype(np.uint8)  # fits the canvas
    results, expected = Runtime(path)(photo), predictor(photo)
    if kind == "semantic":
        assert (results["sem_seg"] != expected["sem_seg"].argmax(0).numpy()).mean() <= 1e-3
    elif kind == "panoptic":
        assert (results["panoptic_seg"][0] != expected["panoptic_seg"][0].numpy()).mean() <= 1e-3
        assert results["panoptic_seg"][1] == expected["panoptic_seg"][1]
    else:
        scores = np.sort(expected["instances"].scores.numpy())
        np.testing.assert_allclose(np.sort(results["instances"].scores), scores, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"format": "tflite"}, ValueError, "format is one of onnx, pt2, aoti, openvino, got"),
        ({"format": "pt2"}, ValueError, "the name of a file of the format pt2 ends in .pt2"),
        ({"input_type": "int8"}, ValueError, "the type of the images is one of float32, uint8"),
        ({"format": "aoti", "int8": True}, ValueError, "8-bit weights are for the format onnx"),
    ],
)
def test_wrong_options_are_refused_before_any_work(model, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        export_model(model, tmp_path / "x.onnx", **changes)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept(model, tmp_path):
    path = tmp_path / "x.onnx"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="is there already"):
        export_model(model, path)
    assert path.read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="the folder .* is missing"):
        export_model(model, tmp_path / "no" / "x.onnx")


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(TypeError, match="a Predictor or a model to export, got int"):
        export_model(3, tmp_path / "x.pt2", "pt2")
    with pytest.raises(ValueError, match="Linear cannot be exported"):
        export_model(torch.nn.Linear(1, 1), tmp_path / "x.pt2", "pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_leaves_nothing(model, tmp_path, monkeypatch):
    def fail(*args):
        raise ValueError("differs")

    monkeypatch.setattr("mask2former.export.export.require_parity", fail)
    monkeypatch.setattr("mask2former.export.export.trace", lambda *args: None)
    write = lambda program, graph, path: path.write_text("half")  # noqa: E731
    monkeypatch.setattr("mask2former.export.export.check_random", lambda *args: {"logits": 1.0})
    fake = {"pt2": dataclasses.replace(FORMATS["pt2"], write=write, open=lambda path: None)}
    monkeypatch.setattr("mask2former.export.export.FORMATS", fake)
    with pytest.raises(ValueError, match="differs"):
        export_model(model, tmp_path / "x.pt2", "pt2")
    assert list(tmp_path.iterdir()) == []


def test_command_says_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["--config-file", str(tmp_path / "no.yaml"), "--output", str(tmp_path / "x.onnx")])
    assert "no.yaml" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("format", ["aoti", "openvino"])
def test_other_programs_compute_the_model(model, format, tmp_path):
    if format == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    elif shutil.which("g++") is None:
        pytest.skip("AOTInductor needs g++")
    path = tmp_path / f"tiny{FORMATS[format].suffixes[0]}"
    export_model(model, path, format, cfg=config())
    for shape in UNTRACED:
        assert difference(model, path, shape, FORMATS[format].open) < 1e-4


@pytest.mark.slow
def test_linear_layers_with_8_bits_are_smaller_and_near(model, tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    whole, small = tmp_path / "whole.onnx", tmp_path / "small.onnx"
    export_model(model, whole, cfg=config())
    export_model(model, small, cfg=config(), int8=True)
    assert small.stat().st_size < whole.stat().st_size
    nodes = onnx.load(small).graph.node
    kept = [node for node in nodes if node.op_type == "MatMul" and "class_embed" in scope_of(node)]
    assert len(kept) == 1
    assert any(node.op_type == "MatMulInteger" for node in nodes)
    assert 1e-5 < difference(model, small, (1, 64, 96)) < 0.2
