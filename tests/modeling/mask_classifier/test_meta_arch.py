"""Naming of given masks: outputs, chunks, freezing, bad input, and that it learns."""

import math

import pytest
import torch
from torch import nn

from mask2former.modeling.meta_arch.base import SegmentationModel
from mask2former.modeling.meta_arch.merging import MergingModel
from tests.modeling.mask_classifier.small import rectangles, tiny_classifier
from tests.modeling.small import NUM_CLASSES, tiny_model

SIZE = (40, 56)
BOXES = ((0, 0, 20, 20), (20, 10, 50, 40), (30, 2, 33, 4), (0, 22, 18, 40))


def image(seed: int = 0, size: tuple[int, int] = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)


def given(**more) -> dict:
    return {"image": image(), "masks": rectangles(*BOXES, size=SIZE), **more}


class Lazy:
    """Masks that can be had one chunk at a time only."""

    def __init__(self, masks: torch.Tensor, most: int = 1000):
        self.masks, self.most, self.shape = masks, most, masks.shape

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        assert isinstance(index, torch.Tensor)
        assert len(index) <= self.most
        return self.masks[index]


@torch.no_grad()
def name(model: nn.Module, **more) -> dict:
    return model.eval()([given(**more)])[0]


def test_outputs():
    result = name(tiny_classifier())
    assert result["class_logits"].shape == (4, NUM_CLASSES + 1)
    found = result["instances"]
    assert found.image_size == SIZE
    masks = given()["masks"]
    probs = result["class_logits"].softmax(-1)
    best = probs[:, :-1].flatten().topk(10).indices % NUM_CLASSES
    assert len(found) == (best != 1).sum()  # of the ten best pairs, those that are things
    for i in range(len(found)):
        (which,) = (masks == found.pred_masks[i]).flatten(1).all(1).nonzero()[:, 0].tolist()
        score = probs[which, found.pred_classes[i]]
        torch.testing.assert_close(found.scores[i], score, rtol=1e-4, atol=1e-5)
        expected = torch.tensor(BOXES[which], dtype=torch.float32)
        torch.testing.assert_close(found.pred_boxes.tensor[i], expected)
    assert result["panoptic_seg"][0].shape == SIZE
    assert result["sem_seg"].shape == (NUM_CLASSES, *SIZE)


def test_panoptic_merging_by_hand():
    """The surer of two overlapping masks has the pixels of both; a mask of nothing has none."""
    model = tiny_classifier()
    logits = torch.tensor([[3.0, 0, 0, 0], [0, 0, 6.0, 0], [0, 0, 0, 9.0]])
    masks = rectangles((0, 0, 30, 40), (20, 0, 56, 20), (0, 0, 56, 40), size=SIZE)
    model.classify = lambda memory, masks, canvas: logits
    ids, segments = name(model, masks=masks)["panoptic_seg"]
    assert [s["category_id"] for s in segments] == [0, 2]
    expected = torch.zeros(SIZE, dtype=torch.int32)
    expected[:, :30] = segments[0]["id"]
    expected[:20, 20:] = segments[1]["id"]
    assert torch.equal(ids, expected)


@pytest.mark.parametrize("per_chunk", [1, 3, 4])
def test_chunks_do_not_change_the_result(per_chunk: int):
    whole = name(tiny_classifier())
    masks = Lazy(given()["masks"])
    parts = name(tiny_classifier(masks_per_chunk=per_chunk), masks=masks)
    torch.testing.assert_close(parts["class_logits"], whole["class_logits"])
    assert torch.equal(parts["instances"].pred_masks, whole["instances"].pred_masks)
    assert torch.equal(parts["sem_seg"].argmax(0), whole["sem_seg"].argmax(0))


def test_no_more_masks_are_read_at_a_time_than_a_chunk():
    model = tiny_classifier(
        masks_per_chunk=8, semantic_on=False, panoptic_on=False, test_topk_per_image=5
    )
    many = rectangles(*BOXES, size=SIZE).repeat(50, 1, 1)
    assert name(model, masks=Lazy(many, most=8))["class_logits"].shape == (200, 4)


def test_masks_of_large_images_come_in_smaller_chunks(monkeypatch: pytest.MonkeyPatch):
    pixels = 3 * SIZE[0] * SIZE[1]
    monkeypatch.setattr("mask2former.modeling.mask_classifier.meta_arch._PIXELS_PER_CHUNK", pixels)
    model = tiny_classifier(semantic_on=False, panoptic_on=False, test_topk_per_image=2)
    many = rectangles(*BOXES, size=SIZE).repeat(2, 1, 1)
    assert name(model, masks=Lazy(many, most=3))["class_logits"].shape == (8, 4)
    monkeypatch.setattr("mask2former.modeling.mask_classifier.meta_arch._PIXELS_PER_CHUNK", 1)
    assert name(model, masks=Lazy(many, most=2))["class_logits"].shape == (8, 4)


def test_images_of_a_batch_do_not_mix():
    model = tiny_classifier().eval()
    other = {"image": image(1, (64, 64)), "masks": rectangles((5, 5, 60, 30), size=(64, 64))}
    with torch.no_grad():
        both = model([given(), other])
        alone = [model([given()])[0], model([other])[0]]
    torch.testing.assert_close(both[1]["class_logits"], alone[1]["class_logits"])
    assert len(both[0]["class_logits"]) == 4


def test_masks_are_of_the_output_and_not_of_what_the_network_sees():
    """An image of twice the size, with masks of twice the size, is the same to the network."""
    masks = given()["masks"]
    larger = masks.repeat_interleave(2, 1).repeat_interleave(2, 2)
    plain = name(tiny_classifier())
    result = name(tiny_classifier(), masks=larger, height=80, width=112)
    torch.testing.assert_close(result["class_logits"], plain["class_logits"])
    assert result["instances"].image_size == (80, 112)


def test_scores_of_masks_multiply_probabilities():
    plain = name(tiny_classifier())["class_logits"].softmax(-1)
    scores = torch.tensor([1.0, 0.5, 0.0, 0.25])
    found = name(tiny_classifier(), mask_scores=scores)["class_logits"].softmax(-1)
    torch.testing.assert_close(found[:, :-1], plain[:, :-1] * scores[:, None])
    torch.testing.assert_close(found.sum(1), torch.ones(4))


# Bad input


def test_empty_masks_are_nothing():
    masks = given()["masks"]
    masks[1] = False
    result = name(tiny_classifier(), masks=masks)
    assert result["class_logits"][1].softmax(-1).tolist() == [0, 0, 0, 1]
    assert result["instances"].pred_masks.flatten(1).any(1).all()
    plain = name(tiny_classifier())["class_logits"]
    others = [0, 2, 3]
    torch.testing.assert_close(result["class_logits"][others], plain[others])


def test_no_masks_at_all():
    result = name(tiny_classifier(), masks=torch.zeros(0, *SIZE, dtype=torch.bool))
    assert result["class_logits"].shape == (0, NUM_CLASSES + 1)
    assert len(result["instances"]) == 0
    ids, segments = result["panoptic_seg"]
    assert ids.shape == SIZE and not ids.any() and segments == []
    assert result["sem_seg"].shape == (NUM_CLASSES, *SIZE) and not result["sem_seg"].any()


@pytest.mark.parametrize(
    "shape", [(4, 56, 40), (4, 80, 112), (40, 56), (4, 1, 40, 56)], ids=lambda s: f"{s}"
)
def test_masks_of_another_shape(shape: tuple[int, ...]):
    masks = torch.zeros(shape, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"a\.jpg: expected bool masks of shape \(N, 40, 56\)"):
        name(tiny_classifier(), masks=masks, file_name="a.jpg")


def test_masks_of_another_type():
    with pytest.raises(ValueError, match=r"got \(4, 40, 56\) of torch.float32"):
        name(tiny_classifier(), masks=given()["masks"].float())


@pytest.mark.parametrize("scores", [[1, 1, 1], [1, 1, 1, 1.5], [1, math.nan, 1, 1]], ids=str)
def test_scores_that_do_not_fit(scores: list[float]):
    with pytest.raises(ValueError, match="mask_scores: expected 4 numbers in 0 to 1"):
        name(tiny_classifier(), mask_scores=torch.tensor(scores))


def test_input_without_masks():
    model = tiny_classifier()
    with pytest.raises(ValueError, match="expected `masks` .* the input has height, image"):
        model.eval()([{"image": image(), "height": 40}])
    with pytest.raises(ValueError, match="training needs `masks` and `mask_labels`.*a.jpg"):
        model.train()([given(file_name="a.jpg")])


def test_prompts_without_sam():
    with pytest.raises(ValueError, match="build_sam_backbone; this one is TinyBackbone"):
        name(tiny_classifier(), prompts=object())


def test_models_that_cannot_be():
    with pytest.raises(ValueError, match="is a MaskQueryDecoder, got MultiScaleMasked"):
        tiny_classifier(sem_seg_head=tiny_model().sem_seg_head)
    with pytest.raises(ValueError, match=r"freeze takes backbone, .* got \['head'\]"):
        tiny_classifier(freeze=["head"])
    with pytest.raises(ValueError, match=r"masks_per_chunk 1 or more, .* and 0"):
        tiny_classifier(masks_per_chunk=0)


# Training


def labelled() -> dict:
    return given(mask_labels=torch.tensor([0, 1, 2, 3]))


def test_losses_and_their_weights():
    model = tiny_classifier()
    losses = model([labelled()])
    assert set(losses) == {"loss_ce", *(f"loss_ce_{i}" for i in range(4))}
    logits = name(tiny_classifier())["class_logits"]
    weight = torch.tensor([1, 1, 1, 0.5])
    expected = nn.functional.cross_entropy(logits, labelled()["mask_labels"], weight)
    torch.testing.assert_close(losses["loss_ce"], 2 * expected)


def test_batches_of_different_numbers_of_masks():
    other = {**given(), "masks": given()["masks"][:0], "mask_labels": torch.zeros(0).long()}
    alone = tiny_classifier()([labelled()])
    both = tiny_classifier()([labelled(), other])
    torch.testing.assert_close(both, alone)
    nothing = tiny_classifier()([other])
    assert sum(nothing.values()).item() == 0
    sum(nothing.values()).backward()


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ((), {"backbone", "pixel_decoder", "predictor"}),
        (("backbone",), {"pixel_decoder", "predictor"}),
        (("backbone", "pixel_decoder", "decoder"), {"predictor"}),
    ],
)
def test_frozen_parts_keep_their_weights(freeze: tuple[str, ...], trained: set[str]):
    model = tiny_classifier(freeze=freeze)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    found = {n.split(".")[0] if n.startswith("backbone") else n.split(".")[1] for n in names}
    assert found == trained
    if "decoder" in freeze:
        new = ("query_init", "query_position", "class_embed")
        assert {n.split(".")[2] for n in names} == set(new)
    sum(model([labelled()]).values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_frozen_parts_stay_in_eval_mode():
    model = tiny_classifier(freeze=["backbone", "decoder"]).train()
    assert model.training and model.sem_seg_head.pixel_decoder.training
    assert not model.backbone.training and not model.backbone.stages.training
    predictor = model.sem_seg_head.predictor
    assert predictor.class_embed.training and not predictor.decoder_norm.training


def test_is_a_sibling_of_mask_former_without_what_needs_predicted_masks():
    model = tiny_classifier()
    assert isinstance(model, MergingModel) and isinstance(tiny_model(), MergingModel)
    assert isinstance(tiny_model(), SegmentationModel)
    assert not isinstance(model, SegmentationModel)
    for name in ("predict", "decode", "prepare_targets", "targets_of", "num_queries"):
        assert hasattr(tiny_model(), name) and not hasattr(model, name)


def test_published_methods_of_a_subclass_are_called():
    model = tiny_classifier()
    expected = name(model)["sem_seg"]

    class Own(type(model)):
        def semantic_inference(self, mask_cls, mask_pred):
            assert torch.equal(mask_pred > 0, given()["masks"])
            return 2 * super().semantic_inference(mask_cls, mask_pred)

    model.__class__ = Own
    torch.testing.assert_close(name(model)["sem_seg"], 2 * expected)


def test_learns_names_by_heart():
    torch.manual_seed(0)
    model = tiny_classifier(freeze=["backbone"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(25):
        loss = sum(model([labelled()]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = name(model)["class_logits"]
    assert found.argmax(1).tolist() == [0, 1, 2, 3]
