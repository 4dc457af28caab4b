"""DAT: published outputs and names, dense attention as an oracle, odd sizes, options, errors."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone

from mask2former.checkpoints.loading import load_into
from mask2former.config import add_maskformer2_config
from mask2former.modeling.backbone.dat import D2DAT

NAMES = ["res2", "res3", "res4", "res5"]
TINY = {
    "embed_dim": 8,
    "depths": (2, 2, 4, 2),
    "num_heads": (1, 2, 4, 4),
    "groups": (-1, -1, 2, 4),
    "window": 3,
    "pretrain_img_size": 96,
    "drop_path": 0.0,
}


def tiny_dat(**options) -> D2DAT:
    torch.manual_seed(0)
    model = D2DAT(**{**TINY, **options})
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return model


@pytest.fixture
def golden(shared: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(shared / "reference"))
    import golden

    yield golden
    sys.modules.pop("golden", None)


def published_names(shared: Path) -> dict[str, list[int]]:
    names = json.loads((shared / "reference" / "dat" / "dat_tiny_state.json").read_text())
    return {n: shape for n, shape in names.items() if not n.startswith(("cls_norm", "cls_head"))}


def test_outputs_are_the_published_ones(shared: Path, golden):
    model = golden.fill(D2DAT()).eval()
    with torch.no_grad():
        got = model((golden.image(224, 224, 5)[None] - 127) / 60)
    with np.load(shared / "reference" / "dat" / "dat_tiny_224.npz") as known:
        for name in NAMES:
            thin = (slice(None), slice(None, None, 3), slice(None, None, 4), slice(None, None, 4))
            x = got[name].numpy()[thin] if name in ("res2", "res3") else got[name].numpy()
            want = known[name]
            assert np.abs(x - want).max() < 1e-5 * np.abs(want).max()
            np.testing.assert_allclose(x, want, rtol=1e-4, atol=1e-6 * np.abs(want).max())


def test_names_and_shapes_are_the_published_ones(shared: Path):
    with torch.device("meta"):
        state = D2DAT().state_dict()
    assert {n: list(t.shape) for n, t in state.items()} == published_names(shared)


def test_published_weights_load_without_their_classifier(shared: Path):
    model = torch.nn.ModuleDict({"backbone": D2DAT()})
    names = json.loads((shared / "reference" / "dat" / "dat_tiny_state.json").read_text())
    weights = {n: torch.tensor(0.5).expand(shape) for n, shape in names.items()}
    report = load_into(model, weights)
    assert not report.missing and not report.skipped and not report.unexpected
    assert set(report.ignored) == {n for n in names if n.startswith("cls_")}
    assert "ignored 4: cls_head.bias" in str(report) or "ignored 4: cls_norm" in str(report)
    assert all((p == 0.5).all() for p in model.parameters())


def test_weights_of_another_size_are_reported(shared: Path):
    """The tables of relative positions and the masks depend on the pretraining's size."""
    model = torch.nn.ModuleDict({"backbone": tiny_dat(pretrain_img_size=192)})
    report = load_into(model, tiny_dat().state_dict())
    assert {n.rpartition(".")[2] for n, *_ in report.skipped} == {"rpe_table"}


def test_stored_mask_parts_what_the_shift_brought_together():
    """Worked out pixel by pixel; at 96, res2 is 24 pixels wide: 8 windows of 3, shifted by 2."""
    mask = tiny_dat().state_dict()["stages.0.attns.1.attn_mask"]
    assert mask.shape == (64, 9, 9)
    for window in (0, 7, 35, 56, 63):
        rows = [(window // 8 * 3 + i + 2) % 24 for i in range(3)]
        columns = [(window % 8 * 3 + i + 2) % 24 for i in range(3)]
        wrapped = [(y < 2, x < 2) for y in rows for x in columns]
        apart = torch.tensor([[a != b for b in wrapped] for a in wrapped])
        assert torch.equal(mask[window], apart * -100.0)


@pytest.mark.parametrize("size", [(53, 77), (33, 200), (96, 96), (1, 1), (32, 64)])
def test_any_size(size):
    model = tiny_dat()
    out = model(torch.randn(2, 3, *size))
    for name, stride in zip(NAMES, (4, 8, 16, 32)):
        want = (2, 2 * stride, -(-size[0] // stride), -(-size[1] // stride))
        assert tuple(out[name].shape) == want
        assert out[name].isfinite().all()
    sum(x.square().mean() for x in out.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_images_of_a_batch_do_not_meet():
    model = tiny_dat().eval()
    images = torch.randn(3, 3, 53, 77)
    with torch.no_grad():
        together, alone = model(images), model(images[1:2])
    for name in NAMES:
        torch.testing.assert_close(together[name][1:2], alone[name], rtol=1e-4, atol=1e-5)


def test_images_of_the_pretraining_need_no_padding():
    """Zeros right and below, up to whole patches, are what an image of another size gets."""
    model = tiny_dat().eval()
    images = torch.zeros(1, 3, 96, 96)
    images[:, :, :93, :94] = torch.randn(1, 3, 93, 94)
    with torch.no_grad():
        got, want = model(images[:, :, :93, :94]), model(images)
    for name in NAMES:
        torch.testing.assert_close(got[name], want[name])


def test_output_norms():
    raw, normed = tiny_dat().eval(), tiny_dat(out_norm=True).eval()
    assert {n for n in normed.state_dict() if n.startswith("norm")} == {
        f"norm{i}.{kind}" for i in range(4) for kind in ("weight", "bias")
    }
    normed.load_state_dict(raw.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        a, b = raw(images), normed(images)
    for i, name in enumerate(NAMES):
        want = getattr(normed, f"norm{i}")(a[name].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(b[name], want)


def test_only_asked_for_stages_are_returned():
    model = tiny_dat(out_features=["res5", "res3"], out_norm=True)
    assert list(model.output_shape()) == ["res3", "res5"] == list(model(torch.zeros(1, 3, 32, 32)))
    assert {n.partition(".")[0] for n in model.state_dict() if n.startswith("norm")} == {
        "norm1",
        "norm3",
    }


def test_checkpointing_changes_no_value_and_no_gradient():
    plain, saving = tiny_dat(), tiny_dat(checkpointing=True)
    images = torch.randn(1, 3, 64, 64)
    runs = []
    for model in (plain, saving):
        seen = []
        model.stages[2].mlps[1].register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        sum(x.square().mean() for x in model(images).values()).backward()
        runs.append(len(seen))
    assert runs == [1, 2]
    for a, b in zip(plain.parameters(), saving.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


def test_drop_path_rises_linearly_over_all_blocks():
    model = tiny_dat(drop_path=0.9)
    rates = [drop.p for stage in model.stages for drop in stage.drop_paths]
    assert rates == pytest.approx([i / 10 for i in range(10)])
    model.train()
    images = torch.randn(1, 3, 32, 32)
    assert not torch.equal(model(images)["res5"], model(images)["res5"])


def test_config_decides():
    cfg = get_cfg()
    add_maskformer2_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "D2DAT"
    cfg.MODEL.DAT.EMBED_DIM = 128
    cfg.MODEL.DAT.DEPTHS = [2, 2, 18, 2]
    cfg.MODEL.DAT.NUM_HEADS = [4, 8, 16, 32]
    cfg.MODEL.DAT.GROUPS = [-1, -1, 4, 8]
    cfg.MODEL.DAT.OUT_NORM = True
    with torch.device("meta"):
        model = build_backbone(cfg)
    assert isinstance(model, D2DAT)
    assert [len(stage.attns) for stage in model.stages] == [2, 2, 18, 2]
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    assert shapes["stages.3.attns.1.rpe_table"] == (32, 13, 13)
    assert shapes["stages.3.attns.1.conv_offset.0.weight"] == (128, 1, 3, 3)
    assert shapes["stages.2.attns.17.conv_offset.0.weight"] == (128, 1, 5, 5)
    assert shapes["norm3.weight"] == (1024,)
    assert model.size_divisibility == 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": (-1, -1, 3, 4)}, "32 channels and 4 heads do not split into 3 groups"),
        ({"num_heads": (1, 2, 4)}, r"D2DAT: .*num_heads.* need one entry.*got .*\[1, 2, 4\]"),
        ({"num_heads": (3, 2, 4, 4)}, "8 channels do not split into 3 heads"),
        ({"pretrain_img_size": 100}, "positive multiple of 32, .*got 100"),
        ({"out_features": ["res6"]}, r"out_features must be some of \['res2'.*got \['res6'\]"),
    ],
)
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_dat(**options)


def test_images_without_a_batch_axis_are_refused():
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), got \(3, 64, 64\)"):
        tiny_dat()(torch.zeros(3, 64, 64))


def test_what_learns_has_a_gradient():
    model = D2DAT(out_features=["res2", "res3"])
    out = model(torch.randn(1, 3, 64, 64))
    sum(x.square().mean() for x in out.values()).backward()
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learning == {n for n, p in model.named_parameters() if p.grad is not None}
