"""SAM of random weights through the real code: agreement with transformers' own path, edges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mask2former.config import get_config
from mask2former.modeling.canvas import Canvas
from mask2former.modeling.mask_classifier import SamBackbone, SamPrompts, SamSegmenter
from mask2former.modeling.mask_classifier.sam import PIXEL_MEAN, PIXEL_STD, build_sam_backbone
from tests.modeling.mask_classifier.small import SIDE, save_tiny_sam, tiny_classifier

transformers = pytest.importorskip("transformers")
SIZE = (48, 64)  # of an image that fills SAM's canvas in width, so that nothing is resized
ALL = {"least_iou": 0.0, "least_stability": 0.0, "most_overlap": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def sam(folder: Path) -> SamSegmenter:
    return SamSegmenter.from_folder(folder)


def photo(size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def reference(sam: SamSegmenter, image: Tensor, **prompts) -> tuple[Tensor, Tensor]:
    """All masks and scores by transformers' processor and one call of its model."""
    processor = transformers.SamImageProcessor(
        size={"longest_edge": SIDE},
        pad_size={"height": SIDE, "width": SIDE},
        mask_size={"longest_edge": SIDE},
        mask_pad_size={"height": SIDE, "width": SIDE},
    )
    x = processor(image.permute(1, 2, 0).numpy(), return_tensors="pt")
    out = sam.model(pixel_values=x["pixel_values"], **prompts)
    (masks,) = processor.post_process_masks(
        out.pred_masks, x["original_sizes"], x["reshaped_input_sizes"]
    )
    return masks, out.iou_scores[0]


@pytest.mark.parametrize("size", [SIZE, (64, 40), (96, 128)])
def test_points_as_transformers_segments_them(sam: SamSegmenter, size: tuple[int, int]):
    image = photo(size)
    points = [(5.0, 7.0), (30.0, 40.0), (39.0, 12.0)]
    masks, scores = sam(image, SamPrompts(points=points))
    factor = SIDE / max(size)
    theirs, their_scores = reference(
        sam, image, input_points=factor * torch.tensor(points)[None, :, None]
    )
    best, which = their_scores.max(1)
    torch.testing.assert_close(scores, best.clamp(0, 1), atol=1e-3, rtol=1e-3)
    agree = masks == theirs[torch.arange(3), which]
    assert agree.float().mean() > (0.999 if factor == 1 else 0.99)  # they resize the image by PIL
    assert 0.02 < masks.float().mean() < 0.98


def test_boxes_as_transformers_segments_them(sam: SamSegmenter):
    boxes = [(2.0, 3.0, 30.0, 40.0), (20.0, 0.0, 64.0, 48.0)]
    masks, scores = sam(photo(), SamPrompts(boxes=boxes))
    theirs, their_scores = reference(
        sam, photo(), input_boxes=torch.tensor(boxes)[None], multimask_output=False
    )
    torch.testing.assert_close(scores, their_scores[:, 0].clamp(0, 1))
    assert torch.equal(masks, theirs[:, 0])


def test_points_come_before_boxes(sam: SamSegmenter):
    points, boxes = [(5, 7), (30, 40)], [(2, 3, 30, 40)]
    both, _ = sam(photo(), SamPrompts(points=points, boxes=boxes))
    assert torch.equal(both[:2], sam(photo(), SamPrompts(points=points))[0])
    assert torch.equal(both[2:], sam(photo(), SamPrompts(boxes=boxes))[0])


def test_more_prompts_than_a_chunk(sam: SamSegmenter, monkeypatch: pytest.MonkeyPatch):
    prompts = SamPrompts(points=[(3 * i, 2 * i) for i in range(7)])
    whole, _ = sam(photo(), prompts)
    monkeypatch.setattr("mask2former.modeling.mask_classifier.sam._PROMPTS_PER_CHUNK", 2)
    monkeypatch.setattr("mask2former.modeling.mask_classifier.sam._MASKS_PER_CHUNK", 3)
    assert (sam(photo(), prompts)[0] == whole).float().mean() > 0.999


def test_grid_keeps_what_passes_the_thresholds(sam: SamSegmenter):
    grid = SamPrompts(grid=3, **ALL)
    points = grid.grid_points(SIZE)
    theirs, their_scores = reference(sam, photo(), input_points=points[None, :, None])
    theirs, their_scores = theirs.flatten(0, 1), their_scores.flatten()
    masks, scores = sam(photo(), grid)
    assert (scores[:-1] >= scores[1:]).all()
    there = theirs.flatten(1).any(1) & (their_scores >= 0)
    assert 0 < len(masks) <= there.sum()
    least = scores.median().item()
    good, good_scores = sam(photo(), SamPrompts(grid=3, **(ALL | {"least_iou": least})))
    assert torch.equal(good, masks[scores >= least]) and (good_scores >= least).all()
    assert len(good) < len(masks)


def test_grid_keeps_the_best_of_like_masks(sam: SamSegmenter):
    masks, scores = sam(photo(), SamPrompts(grid=4, **ALL))
    few, few_scores = sam(photo(), SamPrompts(grid=4, **(ALL | {"most_overlap": 0.3})))
    assert 0 < len(few) < len(masks)
    assert few_scores[0] == scores[0]


def test_grid_without_good_masks(sam: SamSegmenter):
    masks, scores = sam(photo(), SamPrompts(grid=2, least_iou=1.0))
    assert masks.shape == (0, *SIZE) and masks.dtype == torch.bool and len(scores) == 0


def test_prompts_outside_of_the_image(sam: SamSegmenter):
    with pytest.raises(ValueError, match="the point 64,3 lies outside"):
        sam(photo(), SamPrompts(points=[(64, 3)]))


def test_another_canvas_than_its_own(sam: SamSegmenter):
    with pytest.raises(ValueError, match=r"takes 64x64 pixels, got \(64, 96\).*MAX_SIZE_TEST"):
        sam.embed(torch.zeros(1, 3, 64, 96))


# As a backbone


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


def classifier(backbone: SamBackbone):
    """A classifier of masks on SAM's features."""
    from mask2former.modeling import MaskFormerHead, MSDeformAttnPixelDecoder
    from tests.modeling.mask_classifier.small import tiny_decoder
    from tests.modeling.small import NUM_CLASSES, WIDTH

    shapes = backbone.output_shape()
    pixel_decoder = MSDeformAttnPixelDecoder(
        shapes,
        transformer_dropout=0.0,
        transformer_nheads=4,
        transformer_enc_layers=1,
        conv_dim=WIDTH,
        mask_dim=16,
        norm="GN",
        transformer_in_features=["res3", "res4", "res5"],
        common_stride=4,
    )
    head = MaskFormerHead(
        shapes,
        num_classes=NUM_CLASSES,
        pixel_decoder=pixel_decoder,
        transformer_predictor=tiny_decoder(),
        transformer_in_feature="multi_scale_pixel_decoder",
    )
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
    assert grads["backbone.pyramid.res3.weight"].abs().sum() > 0


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


def test_canvas_of_a_tall_image(sam: SamSegmenter):
    """Low-resolution masks beyond the image do not count as stable or unstable."""
    embedding = sam.embed(torch.randn(1, 3, SIDE, SIDE))
    canvas = Canvas((SIDE, SIDE), (SIDE, 17), (SIDE, 17))
    masks, _ = sam.segment(embedding, SamPrompts(grid=2, **ALL), canvas)
    assert masks.shape[1:] == (SIDE, 17) and masks.flatten(1).any(1).all()
