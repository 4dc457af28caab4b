"""Semantic scores of windows: where they are, their averages, and the options beside them."""

import pytest
import torch

from mask2former.errors import UserError
from mask2former.modeling.meta_arch.semantic_windows import window_starts
from tests.modeling.meta_arch.test_image import image
from tests.modeling.small import tiny_model

SEMANTIC = {"panoptic_on": False, "instance_on": False, "size_divisibility": 32}


@pytest.mark.parametrize(
    "length, starts",
    [(40, [0]), (64, [0]), (65, [0, 1]), (130, [0, 33, 66]), (128, [0, 64]), (172, [0, 54, 108])],
)
def test_windows_cover_the_length_and_overlap_equally(length, starts):
    assert window_starts(length, 64) == starts


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (40, 56)])
def test_an_image_of_one_window_has_its_usual_scores(size):
    x = [{"image": image(*size)}]
    windows = tiny_model(**SEMANTIC, semantic_window=64).eval()(x)[0]["sem_seg"]
    torch.testing.assert_close(windows, tiny_model(**SEMANTIC).eval()(x)[0]["sem_seg"])


@torch.no_grad()
@pytest.mark.parametrize("axis", [1, 2])
def test_scores_are_means_over_the_windows_that_show_a_pixel(axis):
    """96 pixels make two windows of 64, which share the 32 in the middle."""
    photo = image(96, 64) if axis == 1 else image(64, 96)
    model, plain = tiny_model(**SEMANTIC, semantic_window=64).eval(), tiny_model(**SEMANTIC).eval()
    found = model([{"image": photo}])[0]["sem_seg"]
    first, second = (
        plain([{"image": photo.narrow(axis, start, 64).contiguous()}])[0]["sem_seg"]
        for start in (0, 32)
    )
    assert found.shape == (3, *photo.shape[1:])
    parts = [
        (found.narrow(axis, 0, 32), first.narrow(axis, 0, 32)),
        (found.narrow(axis, 64, 32), second.narrow(axis, 32, 32)),
        (
            found.narrow(axis, 32, 32),
            (first.narrow(axis, 32, 32) + second.narrow(axis, 0, 32)) / 2,
        ),
    ]
    for part, expected in parts:
        torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_labels_and_the_size_of_the_output():
    model = tiny_model(**SEMANTIC, semantic_window=64, semantic_output="labels").eval()
    x = {"image": image(64, 96), "height": 32, "width": 48}
    labels = model([x, x])[1]["sem_seg"]
    model.semantic_output = "scores"
    scores = model([x])[0]["sem_seg"]
    assert labels.shape == (32, 48) and scores.shape == (3, 32, 48)
    assert torch.equal(labels, scores.argmax(0).int())


def test_windows_are_for_semantic_output_alone():
    with pytest.raises(UserError, match="SEMANTIC_WINDOW is 64: windows are for semantic output"):
        tiny_model(semantic_window=64)


def test_padding_may_have_a_value():
    model = tiny_model(pad_value=10.0)
    padded = model.preprocess([image(40, 56)]).tensor[0]
    expected = (10 - torch.tensor([100.0, 110, 120])) / torch.tensor([50.0, 60, 70])
    torch.testing.assert_close(padded[:, 40:], expected[:, None, None].expand(3, 24, 64))
    plain = tiny_model().preprocess([image(40, 56)]).tensor[0]
    torch.testing.assert_close(padded[:, :40, :56], plain[:, :40, :56])
