"""Blocks of rows: together what resizing the whole gives, at all ratios."""

import pytest
import torch

from mask2former.modeling.postprocessing import canvas
from mask2former.modeling.postprocessing.canvas import Canvas

CANVASES = [
    Canvas((20, 28), (17, 25), (11, 31)),  # down and up
    Canvas((20, 28), (20, 28), (20, 28)),  # one resize
    Canvas((20, 28), (20, 28), (90, 7)),
    Canvas((5, 7), (5, 7), (5, 7)),  # none
    Canvas((64, 64), (1, 50), (1, 3)),
]


@pytest.mark.parametrize("sizes", CANVASES)
@pytest.mark.parametrize("pixels", [1, 400, 10**6])
def test_blocks_are_the_whole(sizes, pixels, monkeypatch):
    monkeypatch.setattr(canvas, "_PIXELS_PER_BLOCK", {"cpu": pixels})
    monkeypatch.setattr(canvas, "_MIN_ROWS", 1)
    maps = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = sizes.resize_to_output(maps)
    rows, blocks = zip(*sizes.blocks(maps))
    assert [row for part in rows for row in range(part.start, part.stop)] == list(
        range(sizes.output[0])
    )
    torch.testing.assert_close(torch.cat(blocks, 1), expected)
    if pixels == 1:
        assert len(blocks) == sizes.output[0]


def test_halves_become_float32():
    maps = torch.ones(1, 5, 7, dtype=torch.bfloat16)
    ((_, block),) = CANVASES[0].blocks(maps)
    torch.testing.assert_close(block, torch.ones(1, 11, 31))
