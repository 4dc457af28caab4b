"""Textures and scenes: invariants, and what hides what."""

from dataclasses import replace

import numpy as np
import pytest

from mask2former.data.synthetic.scene import Scene, random_backdrop, random_scene, render
from mask2former.data.synthetic.textures import TEXTURES
from mask2former.data.synthetic.things import Pose, footprint, random_thing


@pytest.mark.parametrize("texture", TEXTURES.values(), ids=TEXTURES)
def test_textures_stay_near_the_range_and_vary(texture):
    image = texture(np.random.default_rng(1), 40, 56, 0.5)
    assert image.shape == (40, 56, 3) and image.dtype == np.float32
    assert np.isfinite(image).all() and image.min() > -0.6 and image.max() < 1.6
    assert image.std() > 0.01


def test_some_scenes_are_empty_and_all_things_can_be_recognised():
    """10 expected of 200; three standard deviations are 9."""
    empty = 0
    for index in range(200):
        rng = np.random.default_rng([3, index])
        scene = random_scene(rng, 32)
        empty += not scene.things
        if index < 40:
            _, owner = render(scene, rng)
            for number, (thing, pose) in enumerate(zip(scene.things, scene.poses), start=1):
                visible = (owner == number).sum()
                assert visible >= 0.25 * footprint(thing, pose, 32, 32).area
                assert visible > 0
    assert 1 <= empty <= 19


def test_later_things_hide_earlier_ones():
    rng = np.random.default_rng(0)
    disc = replace(random_thing(rng, unit=1.0), kind="disc", aspect=1.0)
    scene = Scene(
        backdrop=random_backdrop(rng, 48, 48, 48 / 128),
        things=(replace(disc, radius=12.0), replace(disc, radius=6.0)),
        poses=(Pose(24, 24, 0), Pose(24, 24, 0)),
        light=np.float32([0, -1]),
        grain=0.0,
    )
    _, owner = render(scene, rng)
    assert owner[24, 24] == 2
    assert owner[24, 24 - 9] == 1
    assert owner[0, 0] == 0
