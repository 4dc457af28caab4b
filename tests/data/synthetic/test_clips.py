"""The clips of the shapes dataset: how things move, and what the annotations say about it."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from pycocotools import mask as mask_util

from mask2former.data.datasets.ytvis import register_ytvis
from mask2former.data.synthetic import write_shapes
from mask2former.data.synthetic.motion import Motion, Swing, random_clip
from mask2former.data.synthetic.scene import render

TINY = {"train": 2, "val": 1, "size": 32, "frames": 5}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("datasets")
    write_shapes(path, video=True, seed=2, train=6, val=2, size=48, frames=12, workers=1)
    return path


def test_swing_by_hand():
    swing = Swing(centre=10, reach=4, period=8, phase=0)
    assert [swing.at(frame) for frame in (0, 2, 4, 6, 8)] == pytest.approx([10, 14, 10, 6, 10])


def test_motion_by_hand():
    still = Swing(7, 0, 1, 0)
    pose = Motion(Swing(10, 4, 8, 0), still, angle=1.0, spin=0.5, pulse=0.1).at(2)
    assert (pose.x, pose.y, pose.angle, pose.scale) == pytest.approx((14, 7, 2.0, 1.1))


def test_things_keep_their_looks_and_move_little_from_frame_to_frame():
    for seed in range(5):
        clip = random_clip(np.random.default_rng(seed), 64, 10)
        assert clip.things
        scenes = [clip.scene(frame) for frame in range(10)]
        assert all(scene.things == clip.things for scene in scenes)
        for before, after in itertools.pairwise(scenes):
            for a, b in zip(before.poses, after.poses):
                # 7 pixels a frame in each direction of an image of 128.
                assert np.hypot(a.x - b.x, a.y - b.y) <= np.hypot(3.5, 3.5) + 1e-6


def test_the_backdrop_drifts_within_its_margin():
    clip = random_clip(np.random.default_rng(4), 64, 10)
    frames = [clip.scene(frame).backdrop.image for frame in (0, 30)]
    assert frames[0].shape == (64, 64, 3)
    assert np.abs(frames[0] - frames[1]).max() > 0.05
    # Outside of the picture OpenCV would repeat its last row.
    for frame in range(0, 200, 5):
        image = clip.scene(frame).backdrop.image
        assert not (image[0] == image[1]).all() and not (image[-1] == image[-2]).all()


def _read(root: Path, split: str = "train") -> dict:
    return json.loads((root / "shapes_video" / f"{split}.json").read_text())


def test_annotations_have_one_entry_a_frame(root):
    content = _read(root)
    assert [v["length"] for v in content["videos"]] == [12] * 6
    assert len({a["id"] for a in content["annotations"]}) == len(content["annotations"]) > 6
    shown = 0
    for annotation in content["annotations"]:
        rows = zip(annotation["segmentations"], annotation["bboxes"], annotation["areas"])
        for segmentation, box, area in list(rows):
            assert (segmentation is None) == (box is None) == (area is None)
            if segmentation is not None:
                mask = mask_util.decode(segmentation)
                assert mask.shape == (48, 48) and mask.sum() == area
                ys, xs = np.nonzero(mask)
                assert box == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
                shown += 1
        assert any(annotation["segmentations"])
    assert shown > 50


def test_masks_of_a_frame_do_not_overlap(root):
    content = _read(root)
    for video in content["videos"]:
        objects = [a for a in content["annotations"] if a["video_id"] == video["id"]]
        for frame in range(12):
            masks = [o["segmentations"][frame] for o in objects]
            masks = [mask_util.decode(m).astype(int) for m in masks if m]
            assert not masks or sum(masks).max() == 1


def test_some_things_leave_and_come_back():
    """A gap in the middle of the frames in which an object is to be seen."""
    gaps = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        clip = random_clip(rng, 48, 24)
        shown = np.zeros((24, len(clip.things)), bool)
        for frame in range(24):
            _, owner = render(clip.scene(frame), rng)
            counts = np.bincount(owner.ravel(), minlength=len(clip.things) + 1)
            shown[frame] = counts[1:] > 0
        for column in shown.T:
            visible = np.flatnonzero(column)
            gaps += not column[visible[0] : visible[-1] + 1].all()
    assert gaps >= 4


def test_frames_are_where_the_json_says(root):
    for split, count in (("train", 6), ("val", 2)):
        videos = _read(root, split)["videos"]
        assert len(videos) == count
        for name in videos[-1]["file_names"]:
            with Image.open(root / "shapes_video" / split / "JPEGImages" / name) as image:
                assert image.size == (48, 48)


def test_registered(root, empty_catalogs):
    register_ytvis(str(root))
    records = DatasetCatalog.get("shapes_video_train")
    assert len(records) == 6 and all(Path(r["file_names"][11]).is_file() for r in records)
    classes = {a["category_id"] for r in records for a in r["annotations"]}
    assert classes <= set(range(6)) and len(classes) > 2
    assert MetadataCatalog.get("shapes_video_val").thing_classes[5] == "cross"


def test_missing_clips_name_the_command(tmp_path, empty_catalogs):
    register_ytvis(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"shapes_video.*prepare_shapes.py --video"):
        DatasetCatalog.get("shapes_video_val")


def test_same_seed_same_bytes_for_any_number_of_workers(tmp_path):
    for folder, workers in (("a", 1), ("b", 2)):
        assert write_shapes(tmp_path / folder, video=True, workers=workers, **TINY)
    files = [sorted(p for p in (tmp_path / f).rglob("*") if p.is_file()) for f in "ab"]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    assert len(files[0]) == 3 * 5 + 2 + 1
    assert write_shapes(tmp_path / "a", video=True, **TINY) is False


@pytest.mark.parametrize(
    ("change", "message"),
    [({"frames": 0}, "frames has to be 1 or more, not 0"), ({"size": 8}, "size has to be 32 to")],
)
def test_arguments_out_of_range(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_shapes(tmp_path, video=True, **{**TINY, **change})


def test_images_have_no_frames(tmp_path):
    with pytest.raises(ValueError, match="frames are for clips only"):
        write_shapes(tmp_path, train=1, val=1, size=32, frames=5)
