"""SAM of random weights as a backbone: one pass for masks and names, training, checkpoints."""

from pathlib import Path

import pytest
import torch

from mask2former.config import get_config
from mask2former.modeling.mask_classifier import SamBackbone, SamPrompts, SamSegmenter
from mask2former.modeling.mask_classifier.sam_backbone import build_sam_backbone
from mask2former.modeling.mask_classifier.sam_segmenter import PIXEL_MEAN, PIXEL_STD
from tests.modeling.mask_classifier.small import (
    SIDE,
    SIZE,
    photo,
    save_tiny_sam,
    tiny_classifier,
    tiny_decoder,
)
from tests.modeling.small import tiny_head

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def sam(folder: Path) -> SamSegmenter:
    return SamSegmenter.from_folder(folder)


def test_shapes_of_the_pyramid(sam: SamSegmenter):
    backbone = SamBackbone(sam)
    features = backbone(torch.randn(2, 3, SIDE, SIDE))
    for name, spec in backbone.output_shape().items():
        side = SIDE // spec.stride
        assert features[name].shape == (2, spec.channels, side, side)
    assert [s.stride for s in backbone.output_shape().values()] == [4, 8, 16, 32]
    assert backbone.size_divisibility == SIDE


def test_only_the_pyramid_learns(sam: SamSegmenter):
    backbone = SamBackbone(sam).train()
    assert not sam.model.training and backbone.pyramid.training
    features = backbone(torch.randn(1, 3, SIDE, SIDE))
    sum(features[f"res{i}"].sum() for i in (2, 3, 4)).backward()
    trained = {n.split(".")[0] for n, p in backbone.named_parameters() if p.grad is not None}
    assert trained == {"pyramid"}
    assert all(not p.requires_grad for p in sam.parameters())


def test_checkpoints_hold_no_weights_of_sam(folder: Path, tmp_path: Path):
    def backbone(path: Path) -> SamBackbone:
        return SamBackbone(SamSegmenter.from_folder(path))

    saved = backbone(folder).state_dict()
    assert {name.split(".")[0] for name in saved} == {"pyramid", "sam_fingerprint"}
    again = backbone(folder)
    again.load_state_dict(saved)
    assert torch.equal(again.pyramid.levels[1].up1.weight, saved["pyramid.levels.1.up1.weight"])
    with pytest.raises(RuntimeError, match="Missing key.*pyramid.levels.1.up1.bias"):
        again.load_state_dict({k: v for k, v in saved.items() if k != "pyramid.levels.1.up1.bias"})
    for change in ({"seed": 1}, {"layers": 3}):
        other = backbone(save_tiny_sam(tmp_path / f"{change}", **change))
        with pytest.raises(ValueError, match="on the features of another SAM"):
            other.load_state_dict(saved)


def classifier(backbone: SamBackbone):
    """A classifier of masks on SAM's features."""
    head = tiny_head(tiny_decoder(), backbone.output_shape())
    return tiny_classifier(
        backbone=backbone,
        sem_seg_head=head,
        size_divisibility=-1,
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
    )


@torch.no_grad()
def test_one_pass_of_the_encoder_serves_masks_and_names(
    sam: SamSegmenter, monkeypatch: pytest.MonkeyPatch
):
    passes = []
    embed = sam.model.get_image_embeddings
    monkeypatch.setattr(
        sam.model, "get_image_embeddings", lambda x: passes.append(len(x)) or embed(x)
    )
    model = classifier(SamBackbone(sam)).eval()
    prompts = SamPrompts(points=[(5, 7), (30, 40)])
    (result,) = model([{"image": photo(), "prompts": prompts}])
    assert passes == [1]
    masks, scores = sam(photo(), prompts)
    assert torch.equal(result["masks"], masks)
    torch.testing.assert_close(result["mask_scores"], scores)
    given = {"image": photo(), "masks": masks, "mask_scores": scores}
    torch.testing.assert_close(model([given])[0]["class_logits"], result["class_logits"])


@torch.no_grad()
def test_images_of_a_batch_have_their_own_masks(sam: SamSegmenter):
    model = classifier(SamBackbone(sam)).eval()
    inputs = [
        {"image": photo(seed=seed), "prompts": SamPrompts(points=[(5, 7)])} for seed in (0, 1)
    ]
    both = model(inputs)
    for found, x in zip(both, inputs):
        assert torch.equal(found["masks"], model([x])[0]["masks"])
    assert not torch.equal(both[0]["masks"], both[1]["masks"])


@torch.no_grad()
def test_prompts_are_in_pixels_of_the_output(sam: SamSegmenter):
    """The image of twice the size, with prompts of twice the size, has the same masks."""
    model = classifier(SamBackbone(sam)).eval()
    plain = model([{"image": photo(), "prompts": SamPrompts(points=[(5, 7)])}])[0]
    large = {"image": photo(), "height": 96, "width": 128}
    result = model([large | {"prompts": SamPrompts(points=[(10, 14)])}])[0]
    assert result["masks"].shape == (1, 96, 128)
    small = result["masks"][:, ::2, ::2]
    assert (small == plain["masks"]).float().mean() > 0.95
    with pytest.raises(ValueError, match="image is 128 wide and 96 high"):
        model([large | {"prompts": SamPrompts(points=[(129, 14)])}])


def test_trains_on_sams_features(sam: SamSegmenter):
    model = classifier(SamBackbone(sam)).train()
    masks = torch.zeros(1, *SIZE, dtype=torch.bool)
    masks[0, 5:20, 5:30] = True
    losses = model([{"image": photo(), "masks": masks, "mask_labels": torch.tensor([1])}])
    sum(losses.values()).backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert all(g is not None for g in grads.values())
    assert grads["backbone.pyramid.levels.1.up1.weight"].abs().sum() > 0


def sam_config(folder: Path | str):
    cfg = get_config()
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = list(PIXEL_MEAN), list(PIXEL_STD)
    cfg.MODEL.SAM.WEIGHTS = str(folder)
    return cfg


def test_built_from_a_config(folder: Path):
    assert isinstance(build_sam_backbone(sam_config(folder), None), SamBackbone)
    with pytest.raises(ValueError, match="MODEL.SAM.WEIGHTS is empty"):
        build_sam_backbone(sam_config(""), None)


@pytest.mark.parametrize(
    ("node", "key", "value"),
    [("INPUT", "FORMAT", "BGR"), ("MODEL", "PIXEL_MEAN", [103.53, 116.28, 123.675])],
)
def test_images_that_sam_would_not_know(folder: Path, node: str, key: str, value: object):
    cfg = sam_config(folder)
    cfg[node][key] = value
    with pytest.raises(ValueError, match=r"SAM takes RGB images with PIXEL_MEAN \[123.675, "):
        build_sam_backbone(cfg, None)
