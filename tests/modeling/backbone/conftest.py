"""A small timm model that several tests take as the oracle."""

import pytest
import torch


@pytest.fixture(scope="module")
def resnet():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    return timm.create_model("resnet10t").eval()
