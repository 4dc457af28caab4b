"""A model that keeps what it is given, its config, and a photo."""

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from PIL import Image
from torch import nn

from mask2former.config import get_config
from mask2former.predict.image import Predictor

RED, GREEN, BLUE = COLOUR = (200, 100, 50)


class RecordingModel(nn.Module):
    """Keeps what it is given, and answers with its weight."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.calls: list[list[dict]] = []

    def forward(self, inputs: list[dict]):
        assert not torch.is_grad_enabled()
        assert not self.training
        self.calls.append(inputs)
        if isinstance(inputs[0]["image"], list):
            return {"frames": len(inputs[0]["image"])}
        return [{"size": (x["height"], x["width"]), "weight": self.weight} for x in inputs]


if "RecordingModel" not in META_ARCH_REGISTRY:
    META_ARCH_REGISTRY.register(RecordingModel)


@pytest.fixture
def cfg():
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE = "RecordingModel"
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 8, 100
    return cfg


@pytest.fixture
def photo() -> Image.Image:
    """8 pixels high, 12 wide."""
    return Image.new("RGB", (12, 8), COLOUR)


def colour_that_arrived(predictor: Predictor) -> tuple[int, ...]:
    image = predictor.model.calls[-1][0]["image"]
    assert image.dtype == torch.uint8
    return tuple(image[:, 0, 0].tolist())
