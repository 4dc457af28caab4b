"""Sampled keys in pixels of the image: places by hand, agreement with a run, errors."""

import pytest
import torch
from mask2former.modeling.backbone.dat_keys import find_keys

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
    assert not any(attn._forward_pre_hooks for s in backbone.stages for attn in s.attns)


def test_places_are_pixels_of_the_image(backbone):
    keys = find_keys(backbone, torch.randn(3, 96, 160), 50, 20)[0]  # res4: 6 x 10 of 16 pixels
    assert keys.query.tolist() == [56, 24]  # the middle of the pixel of the map in x 3, y 1
    # Keys start at the lower right corners of the map's pixels.
    want = [[16 * (i % 10 + 1), 16 * (i // 10 + 1)] for i in range(60)]
    torch.testing.assert_close(keys.references, torch.tensor(want, dtype=torch.float32))
    moved = (keys.places - keys.references).abs()
    assert moved.max() <= 16  # one pixel of the map
    assert moved.amax((0, 1)).min() > 0.1


def test_weights_are_those_of_the_run(backbone):
    """The second layer's input depends on the whole network before it."""
    image = torch.randn(3, 64, 64)
    attn, seen = backbone.stages[2].attns[3], []
    handle = attn.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    keys = find_keys(backbone, image, 40, 8)[1]
    handle.remove()
    want = attn.keys(seen[0], row=0, column=2).probs[0]  # 4 heads in 2 groups
    torch.testing.assert_close(keys.weights, torch.stack([want[:2].mean(0), want[2:].mean(0)]))


@pytest.mark.parametrize("point", [(64, 0), (0, 64), (-1, 3)])
def test_points_outside_of_the_image(backbone, point):
    with pytest.raises(ValueError, match=r"outside of the image of 64 x 64 pixels; x must be"):
        find_keys(backbone, torch.randn(3, 64, 64), *point)
