"""The frames of a clip: augmented alike, ignored regions, and photos that drift."""
# ruff: noqa: NPY002 (detectron2 draws from NumPy's global generator)

import random

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform
from PIL import Image

from mask2former.data.augmentation import Drift
from tests.data.clips.conftest import H, W, make_mapper, make_track, rle, seed_all

CHAINS = {
    "crop": [T.RandomCrop("relative_range", (0.5, 0.5)), T.Resize((20, 30))],
    "sizes": [T.ResizeShortestEdge((20, 30, 40), sample_style="choice"), T.RandomFlip()],
    "rotation": [T.RandomRotation([-40, 40], expand=False)],
    "colours by another generator": [ColorAugSSDTransform("RGB")],
    "colours": [T.RandomBrightness(0.2, 1.8), T.RandomFlip(), T.RandomLighting(20.0)],
}


@pytest.mark.parametrize("name", CHAINS)
def test_equal_frames_stay_equal(video, name: str) -> None:
    for path in video["file_names"][1:]:  # a standing picture
        Image.open(video["file_names"][0]).save(path)
    mapper = make_mapper(4, CHAINS[name], sampling_frame_range=6)
    seed_all(1)
    clips = [mapper(video) for _ in range(6)]
    for clip in clips:
        for image, instances in zip(clip["image"], clip["instances"]):
            assert torch.equal(image, clip["image"][0])
            expected = clip["instances"][0].gt_masks.tensor[0]
            assert torch.equal(instances.gt_masks.tensor[0], expected)
    shapes = {clip["image"][0].shape for clip in clips}
    same = len(shapes) == 1 and all(torch.equal(c["image"][0], clips[0]["image"][0]) for c in clips)
    assert not same  # and clips are augmented anew


def test_the_generators_move_on_from_clip_to_clip(video) -> None:
    mapper = make_mapper(2, [T.RandomFlip()])
    seed_all(0)
    states = []
    for _ in range(3):
        mapper(video)
        states.append((np.random.rand(), random.random()))
    assert len(set(states)) == 3


def test_nothing_is_to_be_ignored_unless_asked_for(video, photo) -> None:
    assert "ignore" not in make_mapper()(video)
    assert "ignore" not in make_mapper()(photo)


def test_crowds_are_ignored_where_no_object_covers_them(video, monkeypatch) -> None:
    """The crowd stands in one place, and in frame 1 object 11 is before its upper half."""
    crowd, before = np.zeros((2, H, W), bool)
    crowd[6:14, 4:12] = True
    before[6:10, 4:12] = True
    video["annotations"] = [
        make_track(11, 0, [rle(before), None, *[None] * 4]),
        make_track(13, 1, [rle(crowd), rle(crowd), *[None] * 4], iscrowd=1),
    ]
    mapper = make_mapper(ignore_void=True)
    monkeypatch.setattr(mapper, "_sample_frames", lambda length: [0, 1, 2])
    ignored = mapper(video)["ignore"]
    assert [x.dtype for x in ignored] == [torch.bool] * 3
    assert np.array_equal(ignored[0].numpy(), crowd & ~before)
    assert np.array_equal(ignored[1].numpy(), crowd)
    assert not ignored[2].any()


def test_what_drifts_into_a_photo_from_outside_is_ignored(photo) -> None:
    photo["annotations"] = photo["annotations"][2:]  # the crowd
    seed_all(3)
    drift = Drift(rotation=0, scale=1, shift=0.4)
    clip = make_mapper(2, ignore_void=True, drift=drift)(photo)
    for image, ignored in zip(clip["image"], clip["ignore"]):
        outside = (image == 128).all(0)
        assert outside.any()
        assert ignored[outside].all()
        assert ignored.sum() > outside.sum() + 30  # the crowd too


# Clips of photos


def test_a_photo_becomes_a_clip(photo) -> None:
    clip = make_mapper(3, drift=Drift(0, 1, 0))(photo)
    assert clip["file_names"] == [photo["file_name"]] * 3
    assert (clip["length"], clip["video_id"], clip["height"], clip["width"]) == (3, 9, H, W)
    frame = np.asarray(Image.open(photo["file_name"])).transpose(2, 0, 1)
    for image, instances in zip(clip["image"], clip["instances"]):
        np.testing.assert_array_equal(image, frame)
        assert instances.gt_ids.tolist() == [21, 22]
        assert instances.gt_classes.tolist() == [2, 1]
        assert instances.gt_masks.tensor[0].sum() == 64


def test_the_photo_drifts_and_its_masks_with_it(photo) -> None:
    seed_all(2)
    clip = make_mapper(4, [T.Resize((3 * H, 3 * W))], drift=Drift(15, 1.1, 0.1))(photo)
    image, first = clip["image"], clip["instances"][0].gt_masks.tensor[0]
    assert not torch.equal(image[0], image[3])
    for frame, instances in zip(image, clip["instances"]):
        mask = instances.gt_masks.tensor[0]
        # Red grows by 5 and green by 8 a pixel of the file: the object is at x 4 to 12, y 6 to 14.
        assert frame[0][mask].float().mean() == pytest.approx(5 * 7.5, abs=3)
        assert frame[1][mask].float().mean() == pytest.approx(8 * 9.5, abs=4)
    assert not torch.equal(mask, first)


def test_an_object_that_drifts_out_loses_its_id(photo) -> None:
    photo["annotations"] = photo["annotations"][:1]
    photo["annotations"][0]["segmentation"] = [[0.0, 0.0, 2.0, 0.0, 2.0, 2.0, 0.0, 2.0]]
    seen = []
    for seed in range(8):
        seed_all(seed)
        clip = make_mapper(4, drift=Drift(0, 1, 0.5))(photo)
        seen += [instances.gt_ids.tolist()[0] for instances in clip["instances"]]
    assert set(seen) == {21, -1}
