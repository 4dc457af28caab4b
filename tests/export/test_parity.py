"""Photos that a file is compared on are read before there is one."""

import numpy as np
import pytest

from mask2former.errors import UserError
from mask2former.export import export_model
from tests.modeling.small import tiny_model, tiny_video_model


@pytest.mark.parametrize(
    ("model", "photos", "error", "message"),
    [
        (tiny_model, ["no.jpg"], FileNotFoundError, r"no\.jpg"),
        (tiny_model, [__file__], UserError, r"Cannot read .*test_parity\.py"),
        (tiny_video_model, [(64, 64), (64, 96)], UserError, "all of one size.* 800x800 and 800x1"),
    ],
)
def test_photos_that_cannot_be_compared(model, photos, error, message, tmp_path, monkeypatch):
    monkeypatch.setattr("mask2former.export.export.trace", lambda *args: 1 / 0)
    images = [np.zeros((*x, 3), np.uint8) if isinstance(x, tuple) else x for x in photos]
    with pytest.raises(error, match=message):
        export_model(model(), tmp_path / "x.pt2", "pt2", photos=images)
    assert list(tmp_path.iterdir()) == []
