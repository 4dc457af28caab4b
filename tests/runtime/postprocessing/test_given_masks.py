"""Given masks: coverage as the models compute it, empty masks, results, errors."""

import numpy as np
import pytest
import torch

from mask2former.modeling.mask_classifier.given_masks import mask_coverage
from mask2former.runtime import Runtime, model
from mask2former.runtime.postprocessing.given_masks import GivenMasks, coverage_of
from mask2former.runtime.resizing import Canvas
from tests.runtime.exported import image, write_file


def masks(count: int = 3, height: int = 50, width: int = 70) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=(count, height, width)) > 0.7


@pytest.mark.parametrize("size", [(40, 56), (50, 70), (60, 90), (7, 9)])
def test_coverage_is_that_of_the_models(size):
    canvas = Canvas((64, 96), size, (50, 70))
    found = coverage_of([GivenMasks(masks(), (50, 70))], [canvas])
    assert found.shape == (1, 3, 64, 96) and found.dtype == np.float32
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(found[0]), 4)
    expected = mask_coverage(torch.from_numpy(masks()), size, (64, 96), (16, 24))
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


def test_images_of_a_batch_have_as_many_as_the_one_with_most():
    canvas = Canvas((64, 96), (50, 70), (50, 70))
    given = [GivenMasks(masks(count), (50, 70)) for count in (2, 0)]
    found = coverage_of(given, [canvas, canvas])
    assert found.shape == (2, 2, 64, 96) and found[0].any() and not found[1].any()


class Named:
    """Says that every mask is a dog."""

    providers = ("CPUExecutionProvider",)
    dtype = np.float32

    def __call__(self, images: np.ndarray, masks: np.ndarray) -> list[np.ndarray]:
        assert masks.shape[:1] == images.shape[:1] and masks.shape[2:] == images.shape[2:]
        logits = np.zeros((*masks.shape[:2], 4), np.float32)
        logits[..., 2] = 9
        return [logits]


@pytest.fixture
def runtime(tmp_path, monkeypatch) -> Runtime:
    write_file(tmp_path / "model.onnx", kind="given_masks", semantic_output="labels")
    monkeypatch.setattr(model, "Session", lambda *args: Named())
    return Runtime(tmp_path / "model.onnx")


def test_masks_come_back_with_names(runtime):
    given = np.zeros((3, 50, 70), bool)
    given[0, :20], given[1, 30:] = True, True  # the last one is empty
    result = runtime(image(), masks=given)
    assert result["class_logits"].argmax(1).tolist() == [2, 2, 3]
    ids, segments = result["panoptic_seg"]
    assert [s["category_id"] for s in segments] == [2, 2]
    np.testing.assert_array_equal(ids == 1, given[0])
    np.testing.assert_array_equal(ids == 2, given[1])
    found = result["instances"]
    named = found[found.pred_classes == 2]
    assert len(named) == 2 and (named.scores > 0.99).all()
    np.testing.assert_array_equal(named.pred_masks, given[:2])


def test_no_masks(runtime):
    result = runtime(image(), masks=np.zeros((0, 50, 70), bool))
    assert result["class_logits"].shape == (0, 4)
    assert result["panoptic_seg"][1] == [] and len(result["instances"]) == 0


@pytest.mark.parametrize(
    "given", [None, np.ones((1, 70, 50), bool), np.ones((1, 50, 70)), [[1]], "sam"]
)
def test_other_masks_are_refused(runtime, given):
    with pytest.raises(ValueError, match=r"names masks, and expects bool masks \(N, 50, 70\)"):
        runtime(image(), masks=given)


def test_a_batch_has_masks_for_each_image(runtime):
    results = runtime([image(), image(40, 30)], masks=[masks(2), masks(1, 40, 30)])
    assert [len(result["class_logits"]) for result in results] == [2, 1]
    with pytest.raises(ValueError, match="expected masks for each of 2 images, got 1"):
        runtime([image(), image()], masks=[masks()])
