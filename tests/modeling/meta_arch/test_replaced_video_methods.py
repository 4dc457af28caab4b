"""Video models with published methods of a subclass or patch: each is called, or refused."""

from types import MethodType

import pytest
import torch

from mask2former.modeling import VideoMaskFormer
from mask2former.tracks.scores import PUBLISHED_SCORES
from mask2former.tracks.windows import Windows
from tests.modeling.small import NUM_QUERIES, tiny_video_model

from .test_image import image
from .test_replaced_methods import subclassed
from .test_video import clip


@torch.no_grad()
@pytest.mark.parametrize("where", ["subclass", "class", "object"])
def test_video_inference_of_a_subclass(where, monkeypatch):
    calls = []

    def inference_video(self, pred_cls, pred_masks, img_size, output_height, output_width):
        calls.append((pred_masks.shape, tuple(img_size), output_height, output_width))
        result = own(self, pred_cls, pred_masks, img_size, output_height, output_width)
        return result | {"mine": True}

    own = VideoMaskFormer.inference_video
    batch = [{"image": [image(seed=i) for i in range(3)], "height": 50, "width": 60}]
    want, model = tiny_video_model().eval()(batch), tiny_video_model().eval()
    if where == "subclass":
        subclassed(model, inference_video=inference_video)
    elif where == "class":
        monkeypatch.setattr(VideoMaskFormer, "inference_video", inference_video)
    else:
        model.inference_video = MethodType(inference_video, model)
    got = model(batch)
    assert got.pop("mine")
    assert calls == [((NUM_QUERIES, 3, 64, 64), (40, 56), 50, 60)]
    assert got["image_size"] == want["image_size"] == (50, 60)
    assert got["pred_labels"] == want["pred_labels"]
    assert got["pred_scores"] == pytest.approx(want["pred_scores"])
    for mine, ours in zip(got["pred_masks"], want["pred_masks"]):
        assert torch.equal(mine, ours)


def test_windows_are_refused_where_results_are_of_whole_clips():
    own = {"inference_video": lambda self, *args: {}}
    model = subclassed(tiny_video_model(), **own).eval()
    model.windows = Windows(2, 1)
    frames = [image(seed=i) for i in range(3)]
    message = "Own has an inference_video of its own, .*VIDEO_WINDOW to 0"
    with pytest.raises(ValueError, match=message):
        model([{"image": frames}])
    assert model([{"image": frames[:2]}]) == {}  # is one window
    whole = tiny_video_model()
    arguments = {
        name: getattr(whole, name)
        for name in ("backbone", "sem_seg_head", "criterion", "size_divisibility", "num_queries")
    }
    arguments |= {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3, "clip_label": "last_frame"}
    arguments |= {"num_frames": 2, "query_scores": PUBLISHED_SCORES}
    with pytest.raises(ValueError, match=message):
        type(model)(**arguments, windows=Windows(2, 1))


def test_video_targets_of_a_subclass_and_of_instances():
    batch = [clip(ids=((4, 8, -1), (4, -1, -1)), classes=((0, 1, 3), (0, 2, 3)))]
    model = tiny_video_model(point_seed=3)
    images = model.preprocess(batch[0]["image"])
    (of_input,) = model.prepare_targets(batch, images)
    (plain,) = model.prepare_targets([x["instances"] for x in batch], images)
    assert set(plain) == {"labels", "ids", "masks"} and set(of_input) == {*plain, "seed"}
    assert plain["ids"].tolist() == [[4, 4], [8, -1]]
    assert torch.equal(plain["masks"], of_input["masks"])

    def prepare_targets(self, targets, images):
        assert targets == batch
        (target,) = VideoMaskFormer.prepare_targets(self, targets, images)
        return [target | {"labels": target["labels"] * 0}]

    (target,) = subclassed(model, prepare_targets=prepare_targets).targets_of(batch, images)
    assert target["labels"].tolist() == [0, 0] and "seed" in target
