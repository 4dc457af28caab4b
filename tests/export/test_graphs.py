"""Which models are exported, and as what."""

from pathlib import Path

import pytest
import torch
from torch import nn

from mask2former.config import load_config
from mask2former.export import export_model
from mask2former.export.graphs import ClipGraph, ImageGraph, graph_class
from mask2former.export.preparation import prepare
from mask2former.modeling import MaskFormer
from mask2former.modeling.build import build_model
from tests.modeling.mask_classifier.small import tiny_classifier
from tests.modeling.small import tiny_model, tiny_video_model

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_each_kind_has_its_graph():
    assert graph_class(tiny_model()) is ImageGraph
    assert graph_class(tiny_video_model()) is ClipGraph


def test_other_models_are_refused_by_name():
    with pytest.raises(ValueError, match="Linear cannot be exported: export takes MaskFormer"):
        graph_class(nn.Linear(1, 1))

    class Own(MaskFormer):
        def forward(self, batched_inputs):
            return []

    model = tiny_model()
    model.__class__ = Own
    with pytest.raises(ValueError, match="Own cannot be exported.*has a forward of its own"):
        graph_class(model)


def test_graph_is_the_model_from_raw_pixels():
    model = tiny_model().eval()
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        classes, masks = ImageGraph(model)(image[None])
        expected = model.predict(model.preprocess([image]).tensor)
    torch.testing.assert_close(classes, expected["pred_logits"])
    torch.testing.assert_close(masks, expected["pred_masks"])


def test_sides_are_multiples_of_the_models_and_of_the_coarsest_map():
    assert ImageGraph(tiny_model(size_divisibility=0)).divisibility == 32
    assert ImageGraph(tiny_model(size_divisibility=48)).divisibility == 96


def test_more_padding_than_the_models_is_said(tmp_path, monkeypatch, caplog):
    """Before any work: what would follow raises here."""
    monkeypatch.setattr("mask2former.export.export.trace", lambda *args: 1 / 0)
    for divisibility, is_said in ((1, True), (32, False)):
        caplog.clear()
        with pytest.raises(ZeroDivisionError):
            export_model(tiny_model(size_divisibility=divisibility), tmp_path / "x.pt2", "pt2")
        assert ("to multiples of 1 pixels, and its file takes" in caplog.text) == is_said


def test_preparation_folds_norms_of_a_copy():
    model = tiny_model(precision="bf16").train()
    conv = nn.Conv2d(3, 3, 1)
    model.backbone.stem = conv
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copied = prepare(model)
    assert not copied.training and copied.precision == "fp32"
    assert model.training and model.precision == "bf16"
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@torch.no_grad()
def test_given_masks_get_the_models_classes():
    """Over a whole canvas; an empty mask is no-object with probability 1."""
    model = tiny_classifier().eval()
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    masks = torch.zeros(3, 64, 96, dtype=torch.bool)
    masks[0, 4:40, 10:50] = masks[1, :, 90:] = True
    (expected,) = model([{"image": image, "masks": masks}])
    found = graph_class(model)(model)(image[None], masks[None].float())
    torch.testing.assert_close(found[0], expected["class_logits"])
    assert found[0, 2].softmax(-1)[-1] == 1


@torch.no_grad()
def test_per_pixel_models_give_class_logits_of_stride_four():
    options = {
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.RESNETS.DEPTH": "18",
        "MODEL.RESNETS.RES2_OUT_CHANNELS": "64",
        "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
        "MODEL.SEM_SEG_HEAD.NAME": "PerPixelBaselineHead",
        "MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME": "BasePixelDecoder",
    }
    cfg = load_config(
        CONFIGS / "ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml",
        [word for pair in options.items() for word in pair],
    )
    model = build_model(cfg).eval()
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    graph = graph_class(model)(prepare(model))
    assert graph.kind == "per_pixel"
    logits = graph(image[None].float())
    (expected,) = model([{"image": image, "height": 64, "width": 96}])
    found = torch.nn.functional.interpolate(logits, scale_factor=4.0, mode="bilinear")
    torch.testing.assert_close(found[0], expected["sem_seg"], rtol=1e-3, atol=1e-4)
