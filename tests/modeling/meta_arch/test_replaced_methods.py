"""Models with published methods of a subclass or patch: each is called, with what it expects."""

from types import MethodType

import pytest
import torch
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import BitMasks, ImageList, Instances, PolygonMasks
from detectron2.utils.memory import retry_if_cuda_oom
from torch import nn
from torch.testing import assert_close

from mask2former.modeling import MaskFormer, SetCriterion
from mask2former.modeling.postprocessing.canvas import Canvas
from tests.modeling.small import NUM_CLASSES, NUM_QUERIES, tiny_model

from .test_image import image, labelled

METHODS = {
    "sem_seg": "semantic_inference",
    "panoptic_seg": "panoptic_inference",
    "instances": "instance_inference",
}
INPUT = [{"image": image(), "height": 80, "width": 100}, {"image": image(33, 70)}]


def subclassed(model, **methods):
    """The model as one of a subclass with other methods, of which `super()` is not the last."""
    base = type("Between", (type(model),), {})
    model.__class__ = type("Own", (type("Mixin", (), methods), base), {})
    return model


def assert_same(got, want):
    if isinstance(got, Instances):
        got, want = got.get_fields(), want.get_fields()
        got["pred_boxes"], want["pred_boxes"] = got["pred_boxes"].tensor, want["pred_boxes"].tensor
    assert_close(got, want)


@torch.no_grad()
@pytest.mark.parametrize("output", METHODS)
def test_a_method_that_calls_the_one_it_replaces_changes_nothing(output):
    name, calls = METHODS[output], []

    def method(self, mask_cls, mask_pred):
        calls.append((mask_cls.shape, mask_pred.shape, mask_pred.dtype))
        return getattr(MaskFormer, name)(self, mask_cls, mask_pred)

    expected = tiny_model().eval()(INPUT)
    results = subclassed(tiny_model(), **{name: method}).eval()(INPUT)
    logits = (NUM_QUERIES, NUM_CLASSES + 1)
    sizes = [(80, 100), (33, 70)]
    assert calls == [(logits, (NUM_QUERIES, *size), torch.float32) for size in sizes]
    for got, want in zip(results, expected):
        assert list(got) == list(want)
        for key in want:
            assert_same(got[key], want[key])


@torch.no_grad()
@pytest.mark.parametrize("where", ["subclass", "class", "object"])
@pytest.mark.parametrize("output", METHODS)
def test_its_result_is_the_output_wherever_it_is_replaced(output, where, monkeypatch):
    def method(self, mask_cls, mask_pred):
        return mask_pred.sum()

    name, model = METHODS[output], tiny_model().eval()
    if where == "subclass":
        subclassed(model, **{name: method})
    elif where == "class":
        monkeypatch.setattr(MaskFormer, name, method)
    else:
        setattr(model, name, MethodType(method, model))
    result = model(INPUT)[0]
    assert result[output].dim() == 0
    others = [result[name] for name in METHODS if name != output]
    assert not any(torch.is_tensor(x) and x.dim() == 0 for x in others)


@torch.no_grad()
def test_masks_are_whole_only_for_methods_from_elsewhere(monkeypatch):
    """Memory and speed depend on it: each image is gone through once, and once more for these."""
    blocks, calls = Canvas.row_blocks, []
    monkeypatch.setattr(Canvas, "row_blocks", lambda *args: calls.append(args) or blocks(*args))
    tiny_model().eval()(INPUT)
    assert len(calls) == 2
    subclassed(tiny_model(), panoptic_inference=lambda self, *args: None).eval()(INPUT)
    assert len(calls) == 2 + 4


@torch.no_grad()
def test_semantic_scores_before_post_processing():
    """The method then gets masks of the padded canvas, and its scores are cropped and resized."""
    sizes = []

    def method(self, mask_cls, mask_pred):
        sizes.append(tuple(mask_pred.shape[1:]))
        return MaskFormer.semantic_inference(self, mask_cls, mask_pred)

    late = {"panoptic_on": False, "instance_on": False}
    late["sem_seg_postprocess_before_inference"] = False
    expected = tiny_model(**late).eval()(INPUT)
    results = subclassed(tiny_model(**late), semantic_inference=method).eval()(INPUT)
    assert sizes == [(64, 96), (64, 96)]
    for got, want in zip(results, expected):
        assert_close(got["sem_seg"], want["sem_seg"])


@torch.no_grad()
def test_methods_by_themselves_by_hand():
    """Two queries of classes 0 and 1, left and right half; class 0 is a thing, 1 is not."""
    mask_cls = torch.tensor([[9.0, 0, 0, 0], [0, 9.0, 0, 0]])
    mask_pred = torch.full((2, 4, 6), -9.0)
    mask_pred[0, :, :3] = mask_pred[1, :, 3:] = 9
    model = tiny_model(test_topk_per_image=2)
    scores = model.semantic_inference(mask_cls, mask_pred)
    assert scores.shape == (3, 4, 6)
    probs = mask_cls.softmax(-1)[:, :3].T @ mask_pred.sigmoid().flatten(1)
    assert_close(scores.flatten(1), probs)
    ids, segments = model.panoptic_inference(mask_cls, mask_pred)
    assert ids.tolist() == [[1, 1, 1, 2, 2, 2]] * 4 and ids.dtype == torch.int32
    assert segments == [
        {"id": 1, "isthing": True, "category_id": 0},
        {"id": 2, "isthing": False, "category_id": 1},
    ]
    model.panoptic_on = False  # all classes are instances then
    instances = model.instance_inference(mask_cls, mask_pred)
    order = instances.pred_classes.argsort()
    assert instances.pred_classes[order].tolist() == [0, 1]
    assert_close(instances.pred_masks[order], mask_pred > 0)
    assert instances.pred_boxes.tensor[order].tolist() == [[0, 0, 3, 4], [3, 0, 6, 4]]
    expected = mask_cls.softmax(-1)[0, 0] * torch.tensor(9.0).sigmoid()
    assert_close(instances.scores, expected.expand(2), rtol=1e-5, atol=0)


@torch.no_grad()
def test_attributes_take_effect_when_they_change():
    model = tiny_model(panoptic_on=False, instance_on=False).eval()
    model.sem_seg_postprocess_before_inference = False
    x = INPUT[:1]
    assert list(model(x)[0]) == ["sem_seg"]
    model.instance_on = model.panoptic_on = True  # resized before they are merged, whatever it says
    result = model(x)[0]
    assert result["panoptic_seg"][0].shape == result["instances"].pred_masks.shape[1:] == (80, 100)
    model.semantic_on = False
    assert list(model(x)[0]) == ["panoptic_seg", "instances"]
    model.test_topk_per_image, model.panoptic_on = 2, False
    assert len(model(x)[0]["instances"]) == 2
    model.panoptic_on, model.object_mask_threshold = True, 1.0
    assert model(x)[0]["panoptic_seg"][1] == []
    model.object_mask_threshold, model.overlap_threshold = 0.0, 1e9
    assert model(x)[0]["panoptic_seg"][1] == []
    model.metadata = None
    with pytest.raises(ValueError, match="which classes are things"):
        model(x)
    model.size_divisibility = 128
    assert model.preprocess([image()]).tensor.shape[-2:] == (128, 128)
    model.pixel_mean = model.pixel_mean * 0
    model.pixel_std = model.pixel_std * 0 + 2
    assert_close(model.preprocess([image()]).tensor[0, :, :40, :56], image() / 2)
    assert model.device == model.pixel_mean.device and model.num_queries == NUM_QUERIES


def canvas(model, batch):
    return model.preprocess([x["image"] for x in batch])


def test_targets_of_instances_are_padded():
    model, batch = tiny_model(point_seed=3), [labelled(), labelled(33, 70, targets=1)]
    batch[1]["instances"].gt_masks = BitMasks(batch[1]["instances"].gt_masks)
    images = canvas(model, batch)
    targets = model.prepare_targets([x["instances"] for x in batch], images)
    for target, x, (height, width) in zip(targets, batch, [(40, 56), (33, 70)]):
        assert set(target) == {"labels", "masks"}
        assert_close(target["labels"], x["instances"].gt_classes)
        assert target["masks"].shape[1:] == (64, 96)
        masks = getattr(x["instances"].gt_masks, "tensor", x["instances"].gt_masks)
        assert torch.equal(target["masks"][:, :height, :width], masks)
        assert target["masks"].sum() == masks.sum()
    for target, of_input in zip(targets, model.prepare_targets(batch, images)):
        assert torch.equal(target["masks"], of_input["masks"])
        assert "seed" in of_input


def test_polygons_are_refused_with_a_way_out():
    model, batch = tiny_model(), [labelled(targets=1)]
    batch[0]["instances"].gt_masks = PolygonMasks([[[0.0, 0, 4, 0, 4, 4]]])
    with pytest.raises(ValueError, match="got PolygonMasks. Set INPUT.MASK_FORMAT"):
        model(batch)


def test_targets_of_a_subclass_count():
    """It gets instances on the model's device, as published, and options join what it returns."""

    def prepare_targets(self, targets, images):
        assert all(isinstance(x, Instances) for x in targets)
        prepared = MaskFormer.prepare_targets(self, targets, images)
        assert all(set(target) == {"labels", "masks"} for target in prepared)
        return [{k: v[:1] for k, v in target.items()} for target in prepared]

    batch = [labelled(image_id=1), labelled(seed=1, targets=3, image_id=2)]
    batch[0]["ignore"] = torch.zeros(40, 56, dtype=torch.bool)
    model = subclassed(tiny_model(point_seed=3), prepare_targets=prepare_targets)
    first, second = model.targets_of(batch, canvas(model, batch))
    assert len(first["labels"]) == len(second["labels"]) == 1
    assert first["ignore"][40:].all() and "ignore" not in second
    assert first["seed"] != second["seed"]
    fewer = [{**x, "instances": x["instances"][:1]} for x in batch]
    got, want = model(batch), tiny_model(point_seed=3)(fewer)
    for name in want:
        assert_close(got[name], want[name])


def test_targets_may_be_more_than_inputs_where_inputs_have_no_options():
    def prepare_targets(self, targets, images):
        return MaskFormer.prepare_targets(self, targets, images) * 2

    batch = [labelled()]
    model = subclassed(tiny_model(), prepare_targets=prepare_targets)
    assert len(model.targets_of(batch, canvas(model, batch))) == 2
    model.point_seed = 0
    with pytest.raises(ValueError, match="Own.prepare_targets returns 2 targets of 1 inputs"):
        model(batch)


def test_a_criterion_of_a_subclass_is_called():
    class Own(SetCriterion):
        def loss_labels(self, outputs, targets, indices, num_masks):
            return {"loss_ce": outputs["pred_logits"].sum() * 0 + 1}

    model = tiny_model()
    model.criterion.__class__ = Own
    losses = model([labelled()])
    assert [losses[f"loss_ce{s}"].item() for s in ("", "_0", "_1")] == [2, 2, 2]  # the weight is 2


class OwnForward(MaskFormer):
    """As a user of the published class writes one: over its parts and methods alone."""

    def forward(self, batched_inputs):
        pixels = [(x["image"].to(self.device) - self.pixel_mean) / self.pixel_std
                  for x in batched_inputs]  # fmt: skip
        images = ImageList.from_tensors(pixels, self.size_divisibility)
        outputs = self.sem_seg_head(self.backbone(images.tensor))
        if self.training:
            objects = [x["instances"].to(self.device) for x in batched_inputs]
            losses = self.criterion(outputs, self.prepare_targets(objects, images))
            weights = self.criterion.weight_dict
            return {name: loss * weights[name] for name, loss in losses.items() if name in weights}
        masks = nn.functional.interpolate(
            outputs["pred_masks"], images.tensor.shape[-2:], mode="bilinear", align_corners=False
        )
        results = []
        for x, mask_cls, mask_pred, size in zip(
            batched_inputs, outputs["pred_logits"], masks, images.image_sizes
        ):
            output = x.get("height", size[0]), x.get("width", size[1])
            whole = retry_if_cuda_oom(sem_seg_postprocess)(mask_pred, size, *output)
            methods = [getattr(self, name) for name in METHODS.values()]
            results.append(
                {key: retry_if_cuda_oom(f)(mask_cls, whole) for key, f in zip(METHODS, methods)}
            )
        return results


def test_a_forward_that_is_written_to_the_published_names():
    own, ours = tiny_model(), tiny_model()
    own.__class__ = OwnForward
    batch = [labelled(), labelled(33, 70, seed=1, targets=3)]
    losses = []
    for model in (own, ours):
        torch.manual_seed(0)
        losses.append(model(batch))
    assert_close(*losses)
    with torch.no_grad():
        for got, want in zip(own.eval()(INPUT), ours.eval()(INPUT)):
            assert_close(got["sem_seg"], want["sem_seg"], rtol=1e-4, atol=1e-5)
            assert (got["panoptic_seg"][0] == want["panoptic_seg"][0]).float().mean() > 0.999
            assert_close(got["instances"].scores, want["instances"].scores, rtol=1e-3, atol=1e-4)
