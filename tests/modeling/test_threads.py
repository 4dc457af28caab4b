"""Results do not depend on the number of threads, up to the order of sums."""

import pytest
import torch

from tests.modeling.meta_arch.test_image import image, labelled

from .small import tiny_model


@pytest.fixture
def threads():
    """Sets the number of threads, and puts back what was."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@torch.no_grad()
def test_outputs(threads):
    model = tiny_model().eval()
    inputs = [{"image": image(96, 128), "height": 150, "width": 210}]
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(model(inputs)[0])
    for other in results[1:]:
        torch.testing.assert_close(results[0]["sem_seg"], other["sem_seg"], rtol=1e-4, atol=1e-5)
        ids, segments = results[0]["panoptic_seg"]
        assert (ids == other["panoptic_seg"][0]).float().mean() > 0.999
        assert segments == other["panoptic_seg"][1]
        mine, others = results[0]["instances"], other["instances"]
        assert (mine.pred_masks == others.pred_masks).float().mean() > 0.999
        torch.testing.assert_close(mine.scores, others.scores, rtol=1e-4, atol=1e-5)


def test_losses_and_gradients(threads):
    results = []
    for count in (1, 2, 3):
        threads(count)
        model = tiny_model(point_seed=0)
        losses = model([labelled(file_name="a"), labelled(seed=1, targets=3, file_name="b")])
        sum(losses.values()).backward()
        gradient = model.sem_seg_head.predictor.query_feat.weight.grad
        results.append((torch.stack(list(losses.values())), gradient))
    for losses, gradient in results[1:]:
        torch.testing.assert_close(losses, results[0][0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-3, atol=1e-4)
