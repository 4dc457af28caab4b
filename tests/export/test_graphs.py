"""Which models are exported, and as what."""

import pytest
import torch
from torch import nn

from mask2former.export.graphs import ClipGraph, ImageGraph, graph_class
from mask2former.export.preparation import prepare
from mask2former.modeling import MaskFormer
from tests.modeling.small import tiny_model, tiny_video_model


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
