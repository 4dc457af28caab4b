"""PyTorch's dynamic quantization of whole models."""

import copy

import pytest
import torch
from torch import nn

from .small import tiny_model


@pytest.mark.filterwarnings("ignore:.*deprecated")
@torch.no_grad()
def test_every_linear_layer_is_replaced():
    model = tiny_model().eval()
    count = sum(type(part) is nn.Linear for part in model.modules())
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear})
    kind = torch.ao.nn.quantized.dynamic.Linear
    assert sum(type(part) is kind for part in quantized.modules()) == count == 18
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    got, expected = quantized.predict(pixels), model.predict(pixels)
    for name in ("pred_logits", "pred_masks"):
        assert not torch.equal(got[name], expected[name])
        torch.testing.assert_close(got[name], expected[name], rtol=0.1, atol=0.3)
    image = (255 * pixels[0]).byte()
    (result,) = quantized([{"image": image, "height": 64, "width": 96}])
    assert {"sem_seg", "panoptic_seg", "instances"} <= set(result)
