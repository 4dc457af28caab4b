"""The clip mapper: which frames, what is in a clip, inference, settings and errors."""

import copy
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BitMasks
from PIL import Image

import mask2former
from mask2former.config import get_config
from mask2former.data import build_mapper
from mask2former.data.augmentation import Drift
from tests.data.clips.conftest import (
    LENGTH,
    SIDE,
    H,
    K,
    W,
    make_mapper,
    make_track,
    rle,
    seed_all,
    times_of,
)

# Sampling


def test_frames_lie_within_the_range_and_in_order() -> None:
    mapper = make_mapper(frames=4)
    counts = np.zeros(30)
    for seed in range(300):
        seed_all(seed)
        chosen = mapper._sample_frames(30)
        assert len(chosen) == 4 and chosen == sorted(chosen)
        assert chosen[0] >= 0 and chosen[-1] < 30 and chosen[-1] - chosen[0] <= 6
        counts[chosen] += 1
    assert (counts > 0).all()  # every frame may come


def test_others_come_with_replacement_and_never_hit_the_reference_frame() -> None:
    for seed in range(50):
        seed_all(seed)
        reference = random.randrange(4)
        seed_all(seed)
        chosen = make_mapper(frames=9, sampling_frame_range=1)._sample_frames(4)
        assert chosen.count(reference) == 1
        assert len(set(chosen)) <= 3  # of 8 others there must be repeats


def test_shuffling_gives_other_orders() -> None:
    seed_all(0)
    drawn = [
        make_mapper(frames=4, sampling_frame_shuffle=True)._sample_frames(9) for _ in range(20)
    ]
    assert any(chosen != sorted(chosen) for chosen in drawn)


@pytest.mark.parametrize(("length", "frames"), [(1, 1), (1, 3), (2, 5), (6, 1)])
def test_short_videos_repeat_frames(video, length: int, frames: int) -> None:
    video["file_names"] = video["file_names"][:length]
    for track in video["annotations"]:
        track["segmentations"] = track["segmentations"][:length]
    clip = make_mapper(frames)(video)
    assert len(clip["image"]) == len(clip["instances"]) == len(clip["file_names"]) == frames
    assert clip["length"] == length


# What a clip holds


def test_keys_and_rows(video, monkeypatch: pytest.MonkeyPatch) -> None:
    mapper = make_mapper()
    monkeypatch.setattr(mapper, "_sample_frames", lambda length: [1, 2, 4])
    before = copy.deepcopy(video)
    clip = mapper(video)
    assert clip.keys() == {
        "image", "instances", "file_names", "height", "width", "length", "video_id",
    }  # fmt: skip
    assert (clip["height"], clip["width"], clip["length"], clip["video_id"]) == (H, W, LENGTH, 5)
    assert times_of(clip) == [1, 2, 4]
    for time, image in zip([1, 2, 4], clip["image"]):
        assert image.dtype == torch.uint8
        frame = np.asarray(Image.open(video["file_names"][time]))
        np.testing.assert_array_equal(image, frame.transpose(2, 0, 1))
    ids = [instances.gt_ids.tolist() for instances in clip["instances"]]
    classes = [instances.gt_classes.tolist() for instances in clip["instances"]]
    assert ids == [[11, -1], [11, 12], [11, -1]]
    assert classes == [[0, K], [0, 2], [0, K]]
    assert before == video  # untouched


def test_masks_and_boxes(video, monkeypatch: pytest.MonkeyPatch) -> None:
    mapper = make_mapper(2)
    monkeypatch.setattr(mapper, "_sample_frames", lambda length: [2, 3])
    with_both, without = mapper(video)["instances"]
    assert isinstance(with_both.gt_masks, BitMasks)
    masks = with_both.gt_masks.tensor
    assert masks.dtype == torch.bool and masks.shape == (2, H, W)
    assert masks[0, 6:14, 4:12].all() and masks[0].sum() == 64
    assert masks[1, 10:20, 20:30].all() and masks[1].sum() == 100
    assert with_both.gt_boxes.tensor.tolist() == [[4, 6, 12, 14], [20, 10, 30, 20]]
    assert not without.gt_masks.tensor[1].any()


def test_masks_of_every_form_work(video) -> None:
    bitmap = np.zeros((H, W), np.uint8)
    bitmap[6:14, 4:12] = 1
    counted = {"size": [H, W], "counts": [4 * H + 6, *[8, H - 8] * 7, 8, W * H - 11 * H - 14]}
    forms = [SIDE, rle(bitmap), counted, bitmap]
    video["annotations"] = [make_track(i, 0, [form] * LENGTH) for i, form in enumerate(forms)]
    video["annotations"].append(make_track(9, 0, [[]] * LENGTH))  # no polygon: not annotated
    for instances in make_mapper(2)(video)["instances"]:
        assert instances.gt_ids.tolist() == [0, 1, 2, 3]
        assert (instances.gt_masks.tensor.numpy() == (bitmap > 0)).all()


def test_rows_stay_with_their_objects(video, monkeypatch: pytest.MonkeyPatch) -> None:
    mapper = make_mapper(2)
    monkeypatch.setattr(mapper, "_sample_frames", lambda length: [2, 3])
    first, second = [None] * LENGTH, [None] * LENGTH
    first[2], second[3] = SIDE, SIDE
    video["annotations"] = [make_track(11, 0, first), make_track(12, 1, second)]
    frames = [instances.gt_masks.tensor.any(2).any(1) for instances in mapper(video)["instances"]]
    assert [rows.tolist() for rows in frames] == [[True, False], [False, True]]


def test_an_object_that_the_crop_removes_keeps_its_class_and_loses_its_id(video) -> None:
    clip = make_mapper(2, [T.CropTransform(20, 0, 16, H)])(video)
    for instances in clip["instances"]:
        assert instances.gt_ids.tolist()[0] == -1
        assert instances.gt_classes.tolist()[0] == 0


def test_a_clip_without_objects_has_no_rows(video) -> None:
    video["annotations"] = []
    for instances in make_mapper()(video)["instances"]:
        assert len(instances) == 0
        assert instances.gt_masks.tensor.shape == (0, H, W)


def test_masks_of_frames_that_were_not_drawn_are_not_decoded(video, monkeypatch) -> None:
    mapper = make_mapper(2)
    monkeypatch.setattr(mapper, "_sample_frames", lambda length: [0, 1])
    video["annotations"][0]["segmentations"][2:] = [{"size": [1, 1], "counts": "broken"}] * 4
    assert mapper(video)["instances"][0].gt_ids.tolist() == [11]


def test_a_repeated_frame_is_read_once(video, monkeypatch: pytest.MonkeyPatch) -> None:
    from mask2former.data import clips

    read = []

    def count(record: Any, path: str, format: str, exif_rotation: bool) -> np.ndarray:
        read.append(path)
        return np.zeros((H, W, 3), np.uint8)

    monkeypatch.setattr(clips, "read_annotated", count)
    mapper = make_mapper(3)
    monkeypatch.setattr(mapper, "_sample_frames", lambda length: [3, 3, 5])
    clip = mapper(video)
    assert times_of(clip) == [3, 3, 5]
    assert read == [video["file_names"][3], video["file_names"][5]]


# Inference


def test_inference_gives_frames_that_are_read_when_asked_for(video) -> None:
    mapper = make_mapper(is_train=False, chain=[T.ResizeShortestEdge(12, 100, "choice")])
    clip = mapper(video)
    assert "instances" not in clip and "annotations" not in clip
    assert clip["file_names"] == video["file_names"]
    frames = clip["image"]
    assert len(frames) == LENGTH
    Path(video["file_names"][4]).unlink()  # nobody asked for it
    assert frames[0].shape == (3, 12, 18)
    assert [frame.shape for frame in frames[1:4]] == [(3, 12, 18)] * 3
    with pytest.raises(FileNotFoundError, match=r"4\.png"):
        frames[4]


def test_frames_can_be_sent_to_another_process(video) -> None:
    frames = make_mapper(is_train=False, chain=[T.Resize((12, 18))])(video)["image"]
    torch.testing.assert_close(pickle.loads(pickle.dumps(frames))[3], frames[3])


def test_size_of_a_video_is_read_from_its_first_frame_where_the_record_has_none(video) -> None:
    del video["height"], video["width"]
    clip = make_mapper(is_train=False)(video)
    assert (clip["height"], clip["width"]) == (H, W)


def test_frames_end_and_a_change_of_size_is_named(video) -> None:
    Image.new("RGB", (W + 2, H)).save(video["file_names"][2])
    frames = make_mapper(is_train=False)(video)["image"]
    with pytest.raises(ValueError, match=r"2\.png: expected 36x24 pixels .* has 38x24"):
        list(frames)
    with pytest.raises(IndexError):
        frames[LENGTH]


# From a config


def test_settings_are_read_from_the_config() -> None:
    cfg = get_config()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "VideoMaskFormer", 7
    cfg.INPUT.SAMPLING_FRAME_NUM, cfg.INPUT.SAMPLING_FRAME_RANGE = 5, 11
    cfg.INPUT.SAMPLING_FRAME_SHUFFLE, cfg.INPUT.FORMAT = True, "RGB"
    cfg.INPUT.PSEUDO_CLIP.ROTATION = 3.0
    mapper = build_mapper(cfg)
    assert (mapper.num_frames, mapper.frame_range, mapper.shuffle) == (5, 11, True)
    assert (mapper.image_format, mapper.num_classes) == ("RGB", 7)
    assert mapper.drift == Drift(3.0, 1.2, 0.1)
    test_mapper = build_mapper(cfg, is_train=False)
    assert not test_mapper.is_train
    assert [type(a) for a in test_mapper.augmentations] == [T.ResizeShortestEdge]


@pytest.mark.parametrize("name", ["YTVISDatasetMapper", "CocoClipDatasetMapper"])
def test_published_classes_take_their_arguments_or_a_config(video, name: str) -> None:
    kind = getattr(mask2former, name)
    mapper = kind(
        True, augmentations=[], image_format="RGB", use_instance_mask=True, sampling_frame_num=2
    )
    assert len(mapper(video)["image"]) == 2
    cfg = get_config()
    cfg.INPUT.SAMPLING_FRAME_NUM = 4
    assert kind(cfg, is_train=True).num_frames == 4


# Errors


def test_a_damaged_frame_is_named(video) -> None:
    for path in video["file_names"]:
        Path(path).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"video 5: Cannot read .*\.png: not an image"):
        make_mapper()(video)


def test_photos_of_another_size_than_the_json_says_are_named(video, photo) -> None:
    video["height"], photo["width"] = H + 1, W + 1
    with pytest.raises(ValueError, match=r"video 5: .*\.png: expected 36x25 pixels"):
        make_mapper()(video)
    with pytest.raises(ValueError, match=r"a\.png: expected 37x24 pixels"):
        make_mapper()(photo)


def test_a_damaged_mask_is_named(video) -> None:
    video["annotations"][0]["segmentations"] = [{"size": [3, 3], "counts": [9]}] * LENGTH
    with pytest.raises(ValueError, match=r"video 5: annotation 11: RLE size: expected"):
        make_mapper()(video)


def test_a_class_that_the_model_lacks_is_named(video, photo) -> None:
    video["annotations"][0]["category_id"] = photo["annotations"][0]["category_id"] = 3
    message = "has class 3; MODEL.SEM_SEG_HEAD.NUM_CLASSES 3 allows 0 to 2"
    with pytest.raises(ValueError, match=f"video 5: annotation 11 {message}"):
        make_mapper()(video)
    with pytest.raises(ValueError, match=rf"a\.png: annotation 21 {message}"):
        make_mapper()(photo)


@pytest.mark.parametrize("settings", [{"frames": 0}, {"sampling_frame_range": -1}])
def test_impossible_sampling_is_refused(settings) -> None:
    with pytest.raises(ValueError, match="SAMPLING_FRAME_NUM >= 1 and SAMPLING_FRAME_RANGE >= 0"):
        make_mapper(**settings)
