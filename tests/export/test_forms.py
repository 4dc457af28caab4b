"""What is computed in another form while a program is exported gives what it gives otherwise.

Nothing is traced here: modules run as ever, and are told that they are exported.
"""

import pytest
import torch

from mask2former.layers import SwinBlock
from mask2former.modeling.backbone.dat_attention import LocalAttention, SampledKeyAttention
from tests.modeling.mask_classifier.small import tiny_classifier
from tests.modeling.small import tiny_model


@torch.no_grad()
def both(module: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, *inputs):
    """Return what a module gives in eager mode, and what its exported form does."""
    module.eval()
    expected = module(*inputs)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    return module(*inputs), expected


@pytest.mark.parametrize("size", [(3, 3), (2, 7), (6, 9), (13, 4)])
@pytest.mark.parametrize("shift", [0, 1])
def test_windows(size, shift, monkeypatch):
    """Maps smaller than a window, of one window, of whole windows, and padded ones."""
    torch.manual_seed(0)
    block = SwinBlock(8, 3, shift, num_heads=2)
    torch.testing.assert_close(*both(block, monkeypatch, torch.randn(2, *size, 8)))


def test_windows_of_dat(monkeypatch):
    torch.manual_seed(0)
    attention = LocalAttention(8, 3, 2, shifted=True, side=6)
    torch.testing.assert_close(*both(attention, monkeypatch, torch.randn(2, 5, 7, 8)))


@pytest.mark.parametrize("offset_range", [2.0, -1.0])
def test_sampled_keys_of_dat(offset_range, monkeypatch):
    torch.manual_seed(0)
    attention = SampledKeyAttention(8, 2, 2, 7, 3, offset_range)
    found, expected = both(attention, monkeypatch, torch.randn(2, 5, 6, 8))
    torch.testing.assert_close(found, expected)


def test_images_of_a_batch_and_alone(monkeypatch):
    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = tiny_model()

        def forward(self, images):
            return self.model.predict(images)["pred_masks"]

    for batch in (1, 2):
        with monkeypatch.context() as context:
            found, expected = both(Both(), context, torch.randn(batch, 3, 64, 96))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_masks_that_are_given(monkeypatch):
    torch.manual_seed(0)
    decoder = tiny_classifier().sem_seg_head.predictor
    width = decoder.class_embed.in_features
    maps = [torch.randn(1, width, 2 * n, 3 * n) for n in (1, 2, 4)]
    mask_features = torch.randn(1, decoder.query_init.in_features - 3 * width, 16, 24)
    coverage = torch.rand(1, 5, 16, 24)
    found, expected = both(decoder, monkeypatch, maps, mask_features, coverage)
    torch.testing.assert_close(found["pred_logits"], expected["pred_logits"])
