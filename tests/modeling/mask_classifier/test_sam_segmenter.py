"""SAM of random weights: agreement with transformers' own path, edges; checks of prompts."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mask2former.modeling.mask_classifier import SamPrompts, SamSegmenter
from mask2former.modeling.mask_classifier.sam_segmenter import _good_ones
from mask2former.modeling.postprocessing.canvas import Canvas
from tests.modeling.mask_classifier.small import SIDE, SIZE, photo, save_tiny_sam

IMAGE = (40, 56)  # whose prompts are checked
ALL = {"min_iou": 0.0, "min_stability": 0.0, "max_overlap": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture(scope="module")
def sam(folder: Path) -> SamSegmenter:
    return SamSegmenter.from_folder(folder)


@torch.no_grad()
def reference(sam: SamSegmenter, image: Tensor, **prompts) -> tuple[Tensor, Tensor]:
    """All masks and scores by transformers' processor and one call of its model."""
    transformers = pytest.importorskip("transformers")
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
    monkeypatch.setattr("mask2former.modeling.mask_classifier.sam_segmenter._PROMPTS_PER_CHUNK", 2)
    monkeypatch.setattr("mask2former.modeling.mask_classifier.sam_segmenter._MASKS_PER_CHUNK", 3)
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
    good, good_scores = sam(photo(), SamPrompts(grid=3, **(ALL | {"min_iou": least})))
    assert torch.equal(good, masks[scores >= least]) and (good_scores >= least).all()
    assert len(good) < len(masks)


def test_grid_keeps_the_best_of_like_masks(sam: SamSegmenter):
    masks, scores = sam(photo(), SamPrompts(grid=4, **ALL))
    few, few_scores = sam(photo(), SamPrompts(grid=4, **(ALL | {"max_overlap": 0.3})))
    assert 0 < len(few) < len(masks)
    assert few_scores[0] == scores[0]


def test_grid_without_good_masks(sam: SamSegmenter):
    masks, scores = sam(photo(), SamPrompts(grid=2, min_iou=1.0))
    assert masks.shape == (0, *SIZE) and masks.dtype == torch.bool and len(scores) == 0


def test_prompts_outside_of_the_image(sam: SamSegmenter):
    with pytest.raises(ValueError, match="the point 64,3 lies outside"):
        sam(photo(), SamPrompts(points=[(64, 3)]))


def test_another_canvas_than_its_own(sam: SamSegmenter):
    with pytest.raises(ValueError, match=r"takes 64x64 pixels, got \(64, 96\).*MAX_SIZE_TEST"):
        sam.embed(torch.zeros(1, 3, 64, 96))


def test_canvas_of_a_tall_image(sam: SamSegmenter):
    """Low-resolution masks beyond the image do not count as stable or unstable."""
    embedding = sam.embed(torch.randn(1, 3, SIDE, SIDE))
    canvas = Canvas((SIDE, SIDE), (SIDE, 17), (SIDE, 17))
    masks, _ = sam.segment(embedding, SamPrompts(grid=2, **ALL), canvas)
    assert masks.shape[1:] == (SIDE, 17) and masks.flatten(1).any(1).all()


def test_thresholds_by_hand():
    """SAM's rating, and the share of a mask's pixels that stay above a higher threshold."""
    logits = torch.full((2, 2, 4, 4), -9.0)
    logits[0, 0, :2] = 5  # stable
    logits[0, 1, 0], logits[0, 1, 1] = 5, 0.5  # half of it is unsure
    logits[1, 0, :2], logits[1, 0, 3] = 5, 0.5  # unsure where there is no image
    scores = torch.tensor([[0.9, 0.9], [0.9, 0.9]])
    canvas = Canvas((SIDE, SIDE), (48, SIDE), SIZE)
    for least, expected in ((0.5, [0, 1, 2]), (0.7, [0, 2])):
        prompts = SamPrompts(min_iou=0.8, min_stability=least)
        found, _ = _good_ones(logits, scores, prompts, canvas)
        assert torch.equal(found, logits.flatten(0, 1)[expected])
    scores[0, 0] = 0.7
    found, found_scores = _good_ones(logits, scores, prompts, canvas)
    assert torch.equal(found, logits[1, :1]) and found_scores.tolist() == pytest.approx([0.9])


def test_padding_does_not_part_masks_of_one_place(sam: SamSegmenter, monkeypatch):
    """Alike on the image, and different below it: boxes over all would overlap by a quarter."""
    logits = torch.full((2, 1, SIDE, SIDE), -9.0)
    logits[:, :, 4:20, 4:20] = 9
    logits[1, :, 4:, 4:20] = 9  # into the padding, which begins at row 20
    scores = torch.tensor([[0.9], [0.95]])
    monkeypatch.setattr(sam, "_ask", lambda embedding, points: (logits, scores))
    canvas = Canvas((SIDE, SIDE), (20, SIDE), (20, SIDE))
    prompts = SamPrompts(grid=1, min_iou=0.0, min_stability=0.0)
    masks, found = sam.segment(torch.zeros(1), prompts, canvas)
    assert found.tolist() == pytest.approx([0.95])
    assert int(masks.sum()) == 16 * 16 and masks[0, 4:20, 4:20].all()


# Prompts


@pytest.mark.parametrize("point", [(56, 3), (-0.5, 3), (3, 40), (3, -1), (float("nan"), 3)])
def test_points_outside_of_the_image(point: tuple[float, float]):
    prompts = SamPrompts(points=[(3, 3), point])
    with pytest.raises(ValueError, match=r"the point \S+ lies outside .* 56 wide and 40 high"):
        prompts.check(IMAGE)


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 57, 5), (0, 0, 5, 41), (50, 30, 90, 90)])
def test_boxes_outside_of_the_image(box: tuple[float, ...]):
    with pytest.raises(ValueError, match=r"the box \S+ does not lie inside .* 56 wide"):
        SamPrompts(boxes=[box]).check(IMAGE)


@pytest.mark.parametrize("box", [(5, 0, 5, 5), (9, 0, 5, 5), (0, 7, 5, 7)])
def test_boxes_without_area(box: tuple[float, ...]):
    with pytest.raises(ValueError, match=r"has no area: expected x0,y0,x1,y1"):
        SamPrompts(boxes=[box]).check(IMAGE)


def test_prompts_up_to_the_border_are_fine():
    SamPrompts(points=[(0, 0), (55.9, 39.9)], boxes=[(0, 0, 56, 40)]).check(IMAGE)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"points": [(1, 2, 3)]}, r"points have 2 numbers each, got \[1, 2, 3\]"),
        ({"boxes": [(1, 2)]}, r"boxes have 4 numbers each, got \[1, 2\]"),
        ({"grid": 0}, "a grid of 1 or more points"),
        ({"min_iou": 1.5}, r"in 0 to 1, got 32 and \(1.5, 0.95, 0.7\)"),
        ({"max_overlap": -0.1}, "in 0 to 1"),
    ],
)
def test_arguments_that_make_no_sense(args: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SamPrompts(**args)


def test_grid_by_hand():
    points = SamPrompts(grid=2).grid_points(IMAGE)
    expected = torch.tensor([[14.0, 10.0], [42.0, 10.0], [14.0, 30.0], [42.0, 30.0]])
    torch.testing.assert_close(points, expected)
    assert SamPrompts(grid=2).automatic
    assert not SamPrompts(points=[(1, 1)]).automatic
