"""Errors of memory name the inputs, others stay as they are."""

import pytest
import torch

from tests.modeling.meta_arch.test_image import labelled
from tests.modeling.small import tiny_model

NO_MEMORY = "[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"


@pytest.mark.parametrize(
    "error", [RuntimeError(NO_MEMORY), MemoryError(), torch.OutOfMemoryError()]
)
def test_training_and_prediction_name_the_images(monkeypatch, error):
    def fail(images):
        raise error

    model = tiny_model()
    monkeypatch.setattr(model, "predict", fail)
    with pytest.raises(type(error)) as caught:
        model([labelled(file_name="a.jpg"), labelled(24, 32, 1)])
    assert caught.value.__notes__ == [
        "out of memory with a.jpg: 56x40 (width x height), 2 objects; "
        "an input: 32x24 (width x height), 1 objects"
    ]
    del error.__notes__
    x = {"image": torch.zeros(3, 8, 9, dtype=torch.uint8), "height": 80, "width": 90}
    with pytest.raises(type(error)) as caught:
        model.eval()([x | {"file_name": "b.jpg"}])
    assert caught.value.__notes__[0].endswith("b.jpg: 9x8 (width x height), results of 90x80")


def test_other_errors_have_no_note(monkeypatch):
    def fail(images):
        raise RuntimeError("shapes do not fit")

    model = tiny_model()
    monkeypatch.setattr(model, "predict", fail)
    with pytest.raises(RuntimeError) as caught:
        model([labelled()])
    assert not hasattr(caught.value, "__notes__")
