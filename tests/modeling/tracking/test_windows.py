"""Windows: where they start, that every frame is used once, and that one window is the clip."""

import re

import pytest
import torch

from mask2former.modeling.tracking.windows import run_windows
from mask2former.tracks.windows import Windows
from tests.modeling.meta_arch.test_image import image
from tests.modeling.small import NUM_QUERIES, WIDTH, tiny_video_model


def clip(length: int) -> list[torch.Tensor]:
    return [image(seed=t) for t in range(length)]


@pytest.mark.parametrize(
    ("length", "windows", "expected"),
    [
        (11, (4, 1), [(0, 0, 4), (3, 1, 4), (6, 1, 4), (7, 3, 4)]),
        (11, (5, 2), [(0, 0, 5), (3, 2, 5), (6, 2, 5)]),
        (5, (4, 3), [(0, 0, 4), (1, 3, 4)]),
        (4, (4, 3), [(0, 0, 4)]),
        (3, (4, 3), [(0, 0, 3)]),
        (1, (4, 3), [(0, 0, 1)]),
        (11, (0, 0), [(0, 0, 11)]),
        (11, (0, 4), [(0, 0, 11)]),
    ],
)
def test_starts_shared_frames_and_lengths(length, windows, expected):
    model = tiny_video_model().eval()
    found = list(run_windows(model, clip(length), Windows(*windows)))
    assert [(w.start, w.shared, w.length) for w in found] == expected


def test_a_window_equals_its_frames_alone():
    model, frames = tiny_video_model().eval(), clip(8)
    for window in run_windows(model, iter(frames), Windows(5, 2)):
        part = frames[window.start : window.start + window.length]
        with torch.no_grad():
            alone = model.predict(model.preprocess(part).tensor)
        torch.testing.assert_close(window.class_logits, alone["pred_logits"][0])
        torch.testing.assert_close(window.mask_logits, alone["pred_masks"][0])
        torch.testing.assert_close(window.embeddings, alone["pred_embeddings"][0])
        assert window.embeddings.shape == (NUM_QUERIES, WIDTH)


def test_every_frame_is_read_normalised_and_encoded_once(monkeypatch):
    model = tiny_video_model().eval()
    reads, preprocessed, encoded = [], [], []
    preprocess, extract = model.preprocess, model.extract

    def frames():
        for t, frame in enumerate(clip(10)):
            reads.append(t)
            yield frame

    def count_preprocess(images):
        preprocessed.extend(images)
        return preprocess(images)

    def count_extract(images):
        encoded.extend(images)
        return extract(images)

    monkeypatch.setattr(model, "preprocess", count_preprocess)
    monkeypatch.setattr(model, "extract", count_extract)
    assert len(list(run_windows(model, frames(), Windows(4, 2)))) == 4
    assert reads == list(range(10))
    assert len(preprocessed) == len(encoded) == 10


def test_reads_no_further_than_a_window():
    reads = []

    def frames():
        for t in range(100):
            reads.append(t)
            yield image(seed=t)

    windows = run_windows(tiny_video_model().eval(), frames(), Windows(4, 1))
    next(windows)
    assert len(reads) == 4
    next(windows)
    assert len(reads) == 7


def test_chunks_of_the_backbone_do_not_change_the_result(monkeypatch):
    model, frames = tiny_video_model().eval(), clip(5)
    (whole,) = run_windows(model, frames, Windows())
    monkeypatch.setattr("mask2former.modeling.tracking.windows._PIXELS_PER_CHUNK", {"cpu": 1})
    (single,) = run_windows(model, frames, Windows())
    torch.testing.assert_close(single.mask_logits, whole.mask_logits)


def test_heads_without_embeddings_will_do(monkeypatch):
    model = tiny_video_model().eval()
    decode = model.decode

    def without(features):
        outputs = decode(features)
        return {k: v for k, v in outputs.items() if k != "pred_embeddings"}

    monkeypatch.setattr(model, "decode", without)
    (window,) = run_windows(model, clip(2), Windows())
    assert window.embeddings is None
    model.windows = Windows(2, 1)
    with torch.no_grad():
        assert len(model([{"image": clip(4)}])["pred_masks"]) == 10


def test_errors():
    model = tiny_video_model().eval()
    with pytest.raises(ValueError, match="at least one frame, got none"):
        list(run_windows(model, [], Windows(4, 1)))
    frames = [*clip(5), image(48, 56)]
    message = re.escape("frame 5 of the clip is 48x56 (height x width), those before are 40x56")
    with pytest.raises(ValueError, match=message):
        list(run_windows(model, frames, Windows(4, 1)))
    for length, overlap in ((4, 0), (4, 4), (1, 1), (-1, 0)):
        with pytest.raises(ValueError, match=f"got a window of {length} frames and an overlap"):
            Windows(length, overlap)
