"""Sampled keys in pixels of the image: places by hand, agreement with a run, errors."""

import pytest
import torch
from dat_drawing.keys import find_keys
from torch.nn import functional as F

from mask2former.modeling.backbone import dat_attention
from mask2former.modeling.backbone.dat import D2DAT


@pytest.fixture(scope="module")
def backbone() -> D2DAT:
    torch.manual_seed(0)
    return D2DAT(
        embed_dim=8,
        depths=(2, 2, 4, 2),
        num_heads=(1, 2, 4, 4),
        groups=(-1, -1, 2, 4),
        window=3,
        pretrain_img_size=96,
    ).eval()


def test_every_layer_of_sampled_keys_is_there(backbone):
    found = find_keys(backbone, torch.randn(3, 70, 100), 99.5, 0)
    assert [(k.name, k.feature) for k in found] == [
        ("stages.2.attns.1", "res4"),
        ("stages.2.attns.3", "res4"),
        ("stages.3.attns.1", "res5"),
    ]
    for keys, groups, count in zip(found, (2, 2, 4), (5 * 7, 5 * 7, 3 * 4)):
        assert keys.places.shape == (groups, count, 2)
        torch.testing.assert_close(keys.weights.sum(1), torch.ones(groups))
    assert not any("attend" in vars(attn) for s in backbone.stages for attn in s.attns)


def test_places_are_pixels_of_the_image(backbone):
    keys = find_keys(backbone, torch.randn(3, 96, 160), 50, 20)[0]  # res4: 6 x 10 of 16 pixels
    assert keys.query.tolist() == [56, 24]  # the middle of the pixel of the map in x 3, y 1
    # Keys start at the lower right corners of the map's pixels.
    want = [[16 * (i % 10 + 1), 16 * (i // 10 + 1)] for i in range(60)]
    torch.testing.assert_close(keys.references, torch.tensor(want, dtype=torch.float32))
    moved = (keys.places - keys.references).abs()
    assert moved.max() <= 16  # one pixel of the map
    assert moved.amax((0, 1)).min() > 0.1


@pytest.mark.parametrize("queries", [12, 5])
def test_weights_and_places_are_those_of_the_run(backbone, monkeypatch, queries):
    """In the last layer, with one head a group, the values under the keys make its output."""
    monkeypatch.setattr(dat_attention, "_MAX_LOGITS", 4 * 12 * queries)
    attn, seen = backbone.stages[3].attns[1], []
    handle = attn.register_forward_hook(lambda _m, args, out: seen.append((args[0], out)))
    keys = find_keys(backbone, torch.randn(3, 96, 128), 70, 40)[2]  # 3 x 4 pixels of 32
    handle.remove()
    ((maps, out),) = seen
    positions = (keys.places / 32 - 0.5) / torch.tensor([3, 2]) * 2 - 1  # x, y
    groups = maps[0].permute(2, 0, 1).unflatten(0, (4, -1))
    samples = F.grid_sample(groups, positions[:, None], align_corners=True).flatten(0, 1)
    values = attn.proj_v(samples[None])[0, :, 0].unflatten(0, (4, -1))
    heads = torch.einsum("gn,gcn->gc", keys.weights, values)
    want = attn.proj_out(heads.flatten()[None, :, None, None]).flatten()
    torch.testing.assert_close(out[0, 1, 2], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("point", [(64, 0), (0, 64), (-1, 3)])
def test_points_outside_of_the_image(backbone, point):
    with pytest.raises(ValueError, match=r"outside of the image of 64 x 64 pixels; x must be"):
        find_keys(backbone, torch.randn(3, 64, 64), *point)
