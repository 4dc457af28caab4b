"""The script that draws DAT's keys: pictures, weights of a whole model, wrong arguments."""

from pathlib import Path

import draw_dat_keys
import numpy as np
import pytest
import torch
from PIL import Image

TINY = [
    *("MODEL.DAT.EMBED_DIM", "8", "MODEL.DAT.DEPTHS", "[2, 2, 4, 2]"),
    *("MODEL.DAT.NUM_HEADS", "[1, 2, 4, 4]", "MODEL.DAT.GROUPS", "[-1, -1, 2, 4]"),
    *("MODEL.DEVICE", "cpu"),
]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), np.uint8)).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def run(photo: str, tmp_path: Path, *arguments: str):
    output = tmp_path / "keys.png"
    base = ["--input", photo, "--output", str(output), "--size", "64", *arguments]
    return draw_dat_keys.main(draw_dat_keys.parse_args(base)), output


def test_a_row_for_each_stage(photo, tmp_path):
    keys, output = run(photo, tmp_path, "--random", *TINY)
    assert [k.name for k in keys] == ["stages.2.attns.3", "stages.3.attns.1"]
    assert keys[0].query.tolist() == [56, 40]  # the middle of the image, enlarged to 96 x 64
    picture = np.asarray(Image.open(output))
    assert picture.shape == (2 * 427, 2 * 640, 3)
    assert picture.std() > 10


def test_layers_and_points_can_be_chosen(photo, tmp_path):
    layer = ("--layer", "stages.2.attns.1")
    keys, _ = run(photo, tmp_path, "--random", "--point", "2", "39", *layer, *TINY)
    assert [k.name for k in keys] == ["stages.2.attns.1"]
    assert keys[0].query.tolist() == [8, 56]
    with pytest.raises(ValueError, match=r"no layer stages\.9; there are stages\.2\.attns\.1, "):
        run(photo, tmp_path, "--random", "--layer", "stages.9", *TINY)
    with pytest.raises(ValueError, match="outside of the image"):
        run(photo, tmp_path, "--random", "--point", "60", "1", *TINY)


def test_weights_of_a_whole_model_are_used(photo, tmp_path):
    cfg = draw_dat_keys.load_config(draw_dat_keys.CONFIG, TINY)
    weights = draw_dat_keys.load_backbone(cfg, random=True).state_dict()
    for name, value in weights.items():
        if "conv_offset.3" in name:
            value.zero_()  # then no key moves
    whole = {f"backbone.{n}": w for n, w in weights.items()}
    whole |= {f"sem_seg_head.x{i}": torch.zeros(1) for i in range(1000)}
    torch.save(whole, tmp_path / "w.pth")
    keys, _ = run(photo, tmp_path, *TINY, "MODEL.WEIGHTS", str(tmp_path / "w.pth"))
    for layer in keys:
        want = layer.references.expand_as(layer.places)
        torch.testing.assert_close(layer.places, want)


def test_other_backbones_are_refused(photo, tmp_path):
    with pytest.raises(ValueError, match="must be D2DAT, but is D2SwinTransformer"):
        run(photo, tmp_path, "--random", *TINY, "MODEL.BACKBONE.NAME", "D2SwinTransformer")
