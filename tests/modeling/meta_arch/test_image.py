"""The image model: outputs, padding, batches, seeds, learning, errors."""

import pytest
import torch
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from tests.modeling.small import NUM_CLASSES, tiny_model


def image(height=40, width=56, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def labelled(height=40, width=56, targets=2, seed=0, **more):
    instances = Instances((height, width))
    instances.gt_classes = torch.arange(targets) % NUM_CLASSES
    masks = torch.zeros(targets, height, width, dtype=torch.bool)
    for i in range(targets):
        masks[i, 4 * i : 4 * i + 12, 6 * i : 6 * i + 16] = True
    instances.gt_masks = masks
    return {"image": image(height, width, seed), "instances": instances, **more}


@torch.no_grad()
def test_outputs_have_the_size_asked_for():
    model = tiny_model().eval()
    first, second = model(
        [{"image": image(), "height": 80, "width": 100}, {"image": image(33, 70)}]
    )
    for result, size in ((first, (80, 100)), (second, (33, 70))):
        assert set(result) == {"sem_seg", "panoptic_seg", "instances"}
        assert result["sem_seg"].shape == (NUM_CLASSES, *size)
        ids, segments = result["panoptic_seg"]
        assert ids.shape == size
        assert {s["id"] for s in segments} == set(ids.unique().tolist()) - {0}
        assert all(s["isthing"] == (s["category_id"] in (0, 2)) for s in segments)
        instances = result["instances"]
        assert instances.image_size == size
        assert instances.pred_masks.shape[1:] == size
        assert set(instances.pred_classes.tolist()) <= {0, 2}


@torch.no_grad()
def test_only_what_is_wanted():
    model = tiny_model(panoptic_on=False, instance_on=False).eval()
    assert set(model([{"image": image()}])[0]) == {"sem_seg"}
    model = tiny_model(semantic_on=False, panoptic_on=False).eval()
    assert set(model([{"image": image()}])[0]) == {"instances"}


@torch.no_grad()
def test_images_of_a_batch_do_not_mix():
    """Of equal size, so that both see the same padding, which takes part as published."""
    model = tiny_model().eval()
    together = model([{"image": image()}, {"image": image(seed=1)}])[1]
    alone = model([{"image": image(seed=1)}])[0]
    torch.testing.assert_close(together["sem_seg"], alone["sem_seg"], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_post_processing_first_or_last_agree_where_nothing_is_resized():
    """With the canvas as the output there is one resizing, whatever the order."""
    x = [{"image": image(64, 64)}]
    first = tiny_model().eval()(x)[0]["sem_seg"]
    options = {"panoptic_on": False, "instance_on": False}
    last = tiny_model(sem_seg_postprocess_before_inference=False, **options).eval()(x)[0]["sem_seg"]
    torch.testing.assert_close(first, last)


@torch.no_grad()
def test_preprocessing_by_hand():
    model = tiny_model()
    images = model.preprocess([image(40, 56)])
    assert images.tensor.shape == (1, 3, 64, 64)
    expected = (image(40, 56).float() - torch.tensor([100.0, 110, 120]).view(3, 1, 1)) / (
        torch.tensor([50.0, 60, 70]).view(3, 1, 1)
    )
    torch.testing.assert_close(images.tensor[0, :, :40, :56], expected)
    assert (images.tensor[0, :, 40:] == 0).all()  # padded after normalisation
    assert (images.tensor[0, :, :, 56:] == 0).all()


def test_losses_and_their_weights():
    model = tiny_model()
    batch = [labelled(image_id=1), labelled(seed=1, targets=3, image_id=2)]
    losses = model(batch)
    names = {f"loss_{k}{s}" for k in ("ce", "mask", "dice") for s in ("", "_0", "_1")}
    assert set(losses) == names
    seeded = tiny_model(point_seed=3)
    once = seeded(batch)
    seeded.criterion.weight_dict["loss_mask"] *= 2
    torch.testing.assert_close(seeded(batch)["loss_mask"], 2 * once["loss_mask"])


def test_bit_masks_and_tensors_train_alike():
    batch, other = labelled(image_id=1), labelled(image_id=1)
    other["instances"].gt_masks = BitMasks(other["instances"].gt_masks)
    model = tiny_model(point_seed=3)
    a, b = model([batch]), model([other])
    for name in a:
        torch.testing.assert_close(a[name], b[name])


def test_image_without_target_trains():
    losses = tiny_model()([labelled(targets=0)])
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()


def test_seeds_follow_the_image_and_the_iteration():
    def seeds(model):
        batch = [labelled(image_id=5), labelled(file_name="a.jpg")]
        images = model.preprocess([x["image"] for x in batch])
        return [target.get("seed") for target in model.prepare_targets(batch, images)]

    model = tiny_model(point_seed=3)
    first = seeds(model)
    assert first == seeds(model)
    assert first[0] != first[1]
    with EventStorage(7):
        assert seeds(model)[0] != first[0]
    assert seeds(tiny_model()) == [None, None]


def test_targets_are_padded_to_the_canvas():
    model = tiny_model()
    batch = [labelled(40, 56, ignore=torch.zeros(40, 56, dtype=torch.bool))]
    images = model.preprocess([batch[0]["image"]])
    (target,) = model.prepare_targets(batch, images)
    assert target["masks"].shape == (2, 64, 64)
    assert target["masks"].dtype == torch.bool
    assert not target["masks"][:, 40:].any()
    assert not target["masks"][:, :, 56:].any()
    assert target["ignore"][40:].all()
    assert target["ignore"][:, 56:].all()
    assert not target["ignore"][:40, :56].any()


class SomebodyElsesHead(nn.Module):
    """Knows nothing of our keyword, and finds a class of its own everywhere."""

    num_classes = NUM_CLASSES

    def forward(self, features):
        batch, _, height, width = features["res2"].shape
        logits = torch.tensor([0.0, 0.0, 9.0, 0.0]).expand(batch, 1, 4)
        return {"pred_logits": logits, "pred_masks": torch.ones(batch, 1, height, width) * 9}


@torch.no_grad()
def test_another_head_can_stand_in():
    model = tiny_model().eval()
    model.sem_seg_head = SomebodyElsesHead()
    ids, segments = model([{"image": image()}])[0]["panoptic_seg"]
    assert (ids == 1).all()
    assert segments == [{"id": 1, "isthing": True, "category_id": 2}]


def test_errors():
    with pytest.raises(ValueError, match="training needs `instances`.*a.jpg"):
        tiny_model()([{"image": image(), "file_name": "a.jpg"}])
    with pytest.raises(ValueError, match="turn on one of"):
        tiny_model(
            semantic_on=False,
            panoptic_on=False,
            instance_on=False,
            sem_seg_postprocess_before_inference=False,
        )
    with pytest.raises(ValueError, match="which classes are things"):
        tiny_model(metadata=None).eval()([{"image": image()}])


def test_learns_two_images_by_heart():
    """Loss falls to a fraction, and the masks come out."""
    torch.manual_seed(0)
    model = tiny_model()
    batch = [labelled(64, 64, targets=2), labelled(64, 64, targets=1, seed=1)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = None
    for _ in range(60):
        loss = sum(model(batch).values())
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.45 * first


def test_graphs_are_for_gpus_only():
    """On a CPU the option changes nothing."""
    image = {"image": torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8)}
    with torch.no_grad():
        (plain,), (graphed,) = (tiny_model(cuda_graphs=on).eval()([image]) for on in (False, True))
    assert torch.equal(plain["sem_seg"], graphed["sem_seg"])
