"""Batches by canvas: results of every grouping and order are those of each image alone."""

import itertools

import pytest
import torch

from mask2former.modeling.meta_arch.batching import canvas_size, run_by_canvas
from tests.modeling.meta_arch.test_image import image, labelled
from tests.modeling.small import tiny_model

# The first two share the canvas 64x64; one is as large as a canvas, one wider, one higher.
SIZES = [(40, 56), (64, 33), (32, 64), (30, 100), (97, 20)]


def inputs():
    return [{"image": image(*size, seed=i)} for i, size in enumerate(SIZES)]


def assert_same(a, b):
    torch.testing.assert_close(a["sem_seg"], b["sem_seg"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(a["instances"].scores, b["instances"].scores, rtol=1e-4, atol=1e-5)
    assert a["panoptic_seg"][1] == b["panoptic_seg"][1]


@torch.no_grad()
def test_any_grouping_and_order_gives_the_results_of_each_image_alone():
    model, images = tiny_model(batch_by_size=True).eval(), inputs()
    alone = [model([x])[0] for x in images]
    orders = list(itertools.permutations(range(len(images))))[::17]
    for order in orders:
        for start in (1, 3, 5):  # the batch is cut in two here
            for part in (order[:start], order[start:]):
                for i, result in zip(part, model([images[i] for i in part]), strict=True):
                    assert_same(result, alone[i])


@torch.no_grad()
def test_published_results_depend_on_the_batch():
    model, (first, *_, wide, _) = tiny_model().eval(), inputs()
    alone, beside = model([first])[0], model([first, wide])[0]
    assert (alone["sem_seg"] - beside["sem_seg"]).abs().max() > 1e-3


@torch.no_grad()
def test_each_batch_has_one_canvas_and_as_many_images_as_there_are():
    model, batches = tiny_model().eval(), []

    def call(batch):
        batches.append([tuple(x["image"].shape[1:]) for x in batch])
        return [{"size": x["image"].shape[1:]} for x in batch]

    found = run_by_canvas(model, inputs(), call)
    assert [tuple(x["size"]) for x in found] == SIZES
    assert batches == [SIZES[:2], SIZES[2:3], SIZES[3:4], SIZES[4:]]


@pytest.mark.parametrize("multiple, canvas", [(32, (64, 96)), (1, (33, 70)), (0, (33, 70))])
def test_canvas_is_what_the_model_pads_to(multiple, canvas):
    model = tiny_model(size_divisibility=multiple)
    assert canvas_size(model, image(33, 70)) == canvas
    assert tuple(model.preprocess([image(33, 70)]).tensor.shape[-2:]) == canvas


def test_training_pads_the_batch_as_published():
    batch = [labelled(image_id=1), labelled(40, 90, image_id=2)]
    a, b = (tiny_model(point_seed=3, batch_by_size=on)(batch) for on in (True, False))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_no_inputs():
    assert run_by_canvas(tiny_model().eval(), []) == []
