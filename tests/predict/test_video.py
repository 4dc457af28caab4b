"""The video predictor: streams, agreement with the published result, ids, errors."""

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from mask2former.config import get_config
from mask2former.engine import VideoPredictor
from mask2former.modeling import VideoMaskFormer
from tests.modeling.small import tiny_model, tiny_video_model

H, W = 40, 56


class PresetModel(nn.Module):
    """Gives the small model that a test has put here."""

    model: nn.Module | None = None

    def __new__(cls, cfg):
        return cls.model


class SmallVideo(PresetModel):
    pass


for made in (PresetModel, SmallVideo):
    if made.__name__ not in META_ARCH_REGISTRY:
        META_ARCH_REGISTRY.register(made)


def frame(t: int) -> np.ndarray:
    return np.random.default_rng(t).integers(0, 256, (H, W, 3), np.uint8)


def make(model: nn.Module, monkeypatch, **settings) -> VideoPredictor:
    cfg = get_config()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = H, 200
    cfg.MODEL.META_ARCHITECTURE = "PresetModel"
    monkeypatch.setattr(PresetModel, "model", model)
    return VideoPredictor(cfg, "", **settings)


def test_one_result_a_frame_in_the_form_of_instances(monkeypatch):
    predictor = make(tiny_video_model(), monkeypatch, window=4, overlap=1)
    results = list(predictor(frame(t) for t in range(9)))
    assert len(results) == 9
    for result in results:
        found = result["instances"]
        assert found.image_size == (H, W)
        assert found.pred_masks.shape[1:] == (H, W) and found.pred_masks.dtype == torch.bool
        assert found.pred_masks.flatten(1).any(1).all()
        assert len(set(found.track_ids.tolist())) == len(found)
        assert (found.track_ids > 0).all()
        assert len(found.pred_boxes) == len(found.scores) == len(found.pred_classes) == len(found)


@pytest.mark.parametrize("window", [0, 6, 9])
def test_one_window_gives_the_published_masks_and_scores(monkeypatch, window: int):
    model = tiny_video_model()
    predictor = make(model, monkeypatch, window=window)
    frames = [frame(t) for t in range(6)]
    published = predictor.predict_clip(frames)
    streamed = [result["instances"] for result in predictor(frames)]
    best = max(published["pred_scores"])
    masks = published["pred_masks"][published["pred_scores"].index(best)]
    assert masks.any()
    for found, mask in zip(streamed, masks, strict=True):
        (drawn,) = found.pred_masks[found.scores == best] if mask.any() else [mask]
        assert torch.equal(drawn, mask)


def test_reads_frames_no_further_than_needed_and_results_come_as_they_are_made(monkeypatch):
    read = []

    def frames() -> Iterator[np.ndarray]:
        for t in range(1000):
            read.append(t)
            yield frame(t)

    results = predictor_of_windows(monkeypatch)(frames())
    next(results)
    assert len(read) == 4
    for _ in range(4):
        next(results)
    assert len(read) == 7


def predictor_of_windows(monkeypatch) -> VideoPredictor:
    return make(tiny_video_model(), monkeypatch, window=4, overlap=1)


def test_a_still_video_keeps_its_ids(monkeypatch):
    results = list(predictor_of_windows(monkeypatch)([frame(0)] * 12))
    ids = [set(result["instances"].track_ids.tolist()) for result in results]
    assert ids[0] and all(found <= ids[0] for found in ids)


def test_threshold_and_first_ids(monkeypatch):
    predictor = make(tiny_video_model(), monkeypatch, window=4, overlap=1, score_threshold=0.45)
    results = list(predictor(frame(t) for t in range(4)))
    scores = torch.cat([result["instances"].scores for result in results])
    assert len(scores) and (scores >= 0.45).all()
    shown = sorted({i for result in results for i in result["instances"].track_ids.tolist()})
    assert shown == list(range(1, len(shown) + 1))


def test_memory_holds_the_frames_of_a_window_however_long_the_video_is(monkeypatch):
    alive: list[weakref.ref] = []

    def frames() -> Iterator[np.ndarray]:
        for t in range(20):
            array = frame(t % 3)
            alive.append(weakref.ref(array))
            yield array
            del array

    counts = []
    for _ in predictor_of_windows(monkeypatch)(frames()):
        counts.append(sum(ref() is not None for ref in alive))
    assert len(alive) == 20
    assert max(counts) <= 6  # a window, and what is being read


def test_models_for_images_frame_by_frame(monkeypatch):
    predictor = make(tiny_model(), monkeypatch, score_threshold=0.0)
    results = list(predictor([frame(0)] * 3))
    assert len(results) == 3
    ids = [result["instances"].track_ids.tolist() for result in results]
    assert ids[0] == ids[1] == ids[2]
    segments = [[s["id"] for s in result["panoptic_seg"][1]] for result in results]
    assert segments[0] == segments[1] == segments[2]
    assert results[0]["sem_seg"].shape == (3, H, W)


def test_windows_of_the_config_and_of_the_arguments(monkeypatch):
    cfg_windows = make(tiny_video_model(), monkeypatch).windows
    assert (cfg_windows.length, cfg_windows.overlap) == (16, 4)
    assert make(tiny_video_model(), monkeypatch, window=3).windows.overlap == 1
    assert make(tiny_video_model(), monkeypatch, window=0).windows.length == 0
    with pytest.raises(ValueError, match="got a window of 4 frames and an overlap of 4"):
        make(tiny_video_model(), monkeypatch, window=4, overlap=4)


@pytest.mark.parametrize("kind", [tiny_model, tiny_video_model])
def test_frames_that_do_not_fit(monkeypatch, kind):
    predictor = make(kind(), monkeypatch)
    with pytest.raises(ValueError, match="expected the frames of a video, got none"):
        predictor([])
    with pytest.raises(ValueError, match=r"frame 2 is 40x56 \(width x height\), those before are"):
        list(predictor([frame(0), frame(1), frame(2).transpose(1, 0, 2)]))


def test_subclasses_of_the_video_model_are_for_video_too(monkeypatch):
    model = tiny_video_model()
    model.__class__ = type("Own", (VideoMaskFormer,), {})
    assert make(model, monkeypatch).is_video_model
    assert not make(tiny_model(), monkeypatch).is_video_model
    model.inference_video = lambda *args: {}
    with pytest.raises(ValueError, match="Own has an inference_video of its own.*predict_clip"):
        make(model, monkeypatch)
