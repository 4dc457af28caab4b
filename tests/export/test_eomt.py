"""EoMT as an ONNX file, and what of it cannot be exported."""

import pytest
import torch

from mask2former.errors import UnsupportedError
from mask2former.export import export_model
from mask2former.export.formats.onnx_format import open_file
from mask2former.export.graphs import ImageGraph, graph_class
from mask2former.export.parity import largest_difference
from mask2former.export.postprocessing import with_postprocess
from mask2former.export.preparation import prepare
from mask2former.export.program import trace
from mask2former.modeling.build import build_model

pytest.importorskip("timm")
from tests.modeling.small import tiny_model
from tests.modeling.small_eomt import eomt_config, eomt_model


def awake(model):
    """At first, blocks count for little, and all tokens look everywhere alike."""
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            parameter.fill_(1)
        elif "qkv.weight" in name:
            parameter.mul_(0.4 / parameter.std())
    return model


@pytest.mark.slow
@pytest.mark.timeout(900)  # positions that are resized make tracing long
@pytest.mark.parametrize("vit", ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"])
@torch.no_grad()
def test_the_file_computes_the_model_at_sizes_that_were_not_traced(vit, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    cfg = eomt_config(vit, DEPTH=2)
    cfg.MODEL.MASK_FORMER.DEC_LAYERS = 2
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST = "RGB", 64
    torch.manual_seed(0)
    model = awake(build_model(cfg).eval())
    model.sem_seg_head.set_mask_probs([0.0])
    export_model(model, tmp_path / "eomt.onnx", cfg=cfg)
    run = open_file(tmp_path / "eomt.onnx")
    for shape in ((1, 3, 64, 96), (3, 3, 128, 64)):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 255
        assert largest_difference(run(images.numpy()), ImageGraph(model)(images)) < 1e-5


@torch.no_grad()
def test_rotary_positions_are_those_of_any_size():
    model = prepare(awake(eomt_model("vit_small_patch16_dinov3").eval()))
    graph = ImageGraph(model)
    program = trace(graph, torch.float32).module()
    for shape in ((1, 3, 64, 96), (3, 3, 128, 64)):
        images = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 255
        found = [logits.numpy() for logits in program(images)]
        assert largest_difference(found, graph(images)) < 1e-5


def test_images_are_padded_to_patches_as_by_the_model():
    model = eomt_model("vit_small_patch16_dinov3", PATCH_SIZE=8).eval()
    assert ImageGraph(model).divisibility == 8


@pytest.mark.parametrize("kind", ["semantic", "panoptic", "instance"])
@torch.no_grad()
def test_results_from_masks_of_another_stride_cover_the_image(kind):
    model = eomt_model("vit_small_patch16_dinov3", UPSCALE_BLOCKS=1).eval()
    model.metadata = tiny_model().metadata
    graph = with_postprocess(ImageGraph(model), kind)
    assert ImageGraph(model).output_axes[1] == {0: "batch", 2: "height/8", 3: "width/8"}
    assert graph(torch.rand(2, 3, 48, 80))[0].shape[-2:] == (48, 80)


def test_what_exported_files_cannot_do_is_refused():
    model = eomt_model("vit_small_patch16_dinov3").eval()
    model.sem_seg_head.rope.normalize_coords = "max"
    with pytest.raises(UnsupportedError, match="rotary positions of RotaryEmbeddingDinoV3"):
        graph_class(model)
    semantic = {"panoptic_on": False, "instance_on": False}
    with pytest.raises(UnsupportedError, match="SEMANTIC_WINDOW: exported files take whole images"):
        graph_class(tiny_model(**semantic, semantic_window=64).eval())
    with pytest.raises(UnsupportedError, match="PAD_VALUE: exported files"):
        graph_class(tiny_model(pad_value=0.0).eval())
