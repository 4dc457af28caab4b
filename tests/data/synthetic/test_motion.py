"""How the things of a clip move."""

import itertools

import numpy as np
import pytest

from mask2former.data.synthetic.motion import Motion, Swing, random_clip
from mask2former.data.synthetic.scene import render


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
