"""The predictor: sizes and batches, weights and names, clips, a real model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mask2former.predict import image as module
from mask2former.predict.image import Predictor


def test_resizes_the_shorter_side_unless_the_longer_gets_too_long(cfg):
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 20, 30
    predictor = Predictor(cfg)
    predictor([np.zeros((40, 50, 3), np.uint8), np.zeros((40, 80, 3), np.uint8)])
    prepared = [x for call in predictor.model.calls for x in call]
    sizes = [tuple(x["image"].shape) for x in prepared]
    assert sizes == [(3, 20, 25), (3, 15, 30)]
    assert [(x["height"], x["width"]) for x in prepared] == [(40, 50), (40, 80)]


def test_images_of_a_list_that_have_one_canvas_are_one_batch(cfg, photo: Image.Image):
    predictor = Predictor(cfg)
    results = predictor([photo, np.zeros((16, 9, 3), np.uint8), photo])
    assert [result["size"] for result in results] == [(8, 12), (16, 9), (8, 12)]
    assert [len(call) for call in predictor.model.calls] == [2, 1]
    assert len(predictor([photo])) == 1
    assert predictor([]) == []


# Weights and names


@pytest.fixture
def checkpoint(tmp_path: Path):
    """Writes a checkpoint whose weights have one value, and returns its path."""

    def write(value: float) -> str:
        path = tmp_path / f"weights_{value}.pth"
        torch.save({"model": {"weight": torch.full((2,), value)}}, path)
        return str(path)

    return write


def test_weights_of_the_config_or_of_the_argument(cfg, checkpoint, photo: Image.Image):
    first, second = checkpoint(1.0), checkpoint(2.0)
    cfg.MODEL.WEIGHTS = first
    assert Predictor(cfg)(photo)["weight"].tolist() == [1, 1]
    predictor = Predictor(cfg, Path(second))
    assert predictor(photo)["weight"].tolist() == [2, 2]
    assert second == predictor.cfg.MODEL.WEIGHTS
    assert Predictor(cfg, "")(photo)["weight"].tolist() == [0, 0]
    assert first == cfg.MODEL.WEIGHTS
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        Predictor(cfg, "absent.pth")


def test_a_name_means_the_published_config_and_weights(
    cfg, checkpoint, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "get_config", lambda name: cfg if name == "tiny" else None)
    monkeypatch.setattr(module, "get_checkpoint_file", lambda name: checkpoint(3.0))
    assert Predictor("tiny")(photo)["weight"].tolist() == [3, 3]
    assert Predictor("tiny", checkpoint(4.0))(photo)["weight"].tolist() == [4, 4]


def test_metadata_is_that_of_the_test_set(cfg):
    cfg.DATASETS.TEST = ("some_test_set", "another")
    assert Predictor(cfg).metadata.name == "some_test_set"
    cfg.DATASETS.TEST = ()
    assert Predictor(cfg).metadata.get("thing_classes") is None


# Clips


def test_a_clip_is_one_input_with_many_frames(cfg, photo: Image.Image):
    predictor = Predictor(cfg)
    assert predictor.predict_clip([photo, np.asarray(photo), photo]) == {"frames": 3}
    (clip,) = predictor.model.calls[0]
    assert (clip["height"], clip["width"]) == (8, 12)
    assert [tuple(frame.shape) for frame in clip["image"]] == [(3, 8, 12)] * 3


def test_frames_have_one_size(cfg, photo: Image.Image):
    with pytest.raises(ValueError, match=r"frame 1 is 8x12 .*, those before are 12x8: expected "):
        Predictor(cfg).predict_clip([photo, photo.rotate(90, expand=True)])
    with pytest.raises(ValueError, match="expected the frames of a video, got none"):
        Predictor(cfg).predict_clip([])


def test_video_models_want_clips(cfg, photo: Image.Image):
    predictor = Predictor(cfg)
    predictor.cfg.MODEL.META_ARCHITECTURE = "VideoMaskFormer"
    with pytest.raises(ValueError, match="give the frames to predict_clip"):
        predictor(photo)


# A real model


def test_the_three_results_have_the_size_of_the_image(photo: Image.Image):
    cfg = module.get_config("coco/panoptic-segmentation/maskformer2_R50_bs16_50ep")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.MASK_FORMER.DEC_LAYERS = 2
    cfg.MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS = 1
    cfg.INPUT.MIN_SIZE_TEST = 64
    result = Predictor(cfg, weights="")(photo)
    assert result["sem_seg"].shape == (133, 8, 12)
    assert result["panoptic_seg"][0].shape == (8, 12)
    assert result["instances"].image_size == (8, 12)
