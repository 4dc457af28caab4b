"""The recipes: which augmentations, in which order, from which keys; and the drifting camera."""
# ruff: noqa: NPY002 (detectron2 draws from NumPy's global generator)

import math

import numpy as np
import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import transforms as T
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import ColorAugSSDTransform

from mask2former import add_maskformer2_config, add_maskformer2_video_config
from mask2former.data import augmentation
from mask2former.data.augmentation import (
    AffineTransform,
    Drift,
    clip_from_config,
    lsj_from_config,
    shortest_edge_from_config,
)


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    add_maskformer2_video_config(cfg)
    return cfg


def _kinds(augmentations) -> list[type]:
    return [type(augmentation) for augmentation in augmentations]


def test_shortest_edge_resizes_crops_colours_and_flips(cfg: CfgNode) -> None:
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (320, 640), 2560
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE = "absolute", (640, 512)
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.75
    cfg.INPUT.COLOR_AUG_SSD, cfg.INPUT.FORMAT = True, "RGB"
    resize, crop, colour, flip = shortest_edge_from_config(cfg, area_constraint=True)
    assert (resize.short_edge_length, resize.max_size, resize.is_range) == ((320, 640), 2560, False)
    assert isinstance(crop, T.RandomCrop_CategoryAreaConstraint)
    assert (crop.crop_type, crop.crop_size) == ("absolute", (640, 512))
    assert (crop.single_category_max_area, crop.ignored_category) == (0.75, 255)
    assert isinstance(colour, ColorAugSSDTransform) and colour.is_rgb
    assert isinstance(flip, T.RandomFlip) and flip.horizontal and flip.prob == 0.5


def test_instance_targets_get_a_plain_crop(cfg: CfgNode) -> None:
    cfg.INPUT.CROP.ENABLED = True
    augmentations = shortest_edge_from_config(cfg, area_constraint=False)
    assert _kinds(augmentations) == [T.ResizeShortestEdge, T.RandomCrop, T.RandomFlip]


def test_shortest_edge_flips_whatever_random_flip_says_unless_told_to_heed_it(cfg: CfgNode) -> None:
    cfg.INPUT.RANDOM_FLIP = "none"
    kinds = _kinds(shortest_edge_from_config(cfg, area_constraint=True))
    assert kinds == [T.ResizeShortestEdge, T.RandomFlip]
    cfg.INPUT.OBEY_RANDOM_FLIP = True
    kinds = _kinds(shortest_edge_from_config(cfg, area_constraint=True))
    assert kinds == [T.ResizeShortestEdge]


def test_lsj_flips_scales_and_cuts_a_square(cfg: CfgNode) -> None:
    cfg.INPUT.IMAGE_SIZE, cfg.INPUT.MIN_SCALE, cfg.INPUT.MAX_SCALE = 512, 0.25, 1.5
    cfg.INPUT.RANDOM_FLIP = "vertical"
    cfg.INPUT.COLOR_AUG_SSD = cfg.INPUT.CROP.ENABLED = True  # without effect here, as published
    flip, scale, crop = lsj_from_config(cfg)
    assert flip.vertical and not flip.horizontal
    assert (scale.min_scale, scale.max_scale) == (0.25, 1.5)
    assert (scale.target_height, scale.target_width) == (512, 512)
    assert (tuple(crop.crop_size), crop.pad) == ((512, 512), False)
    cfg.INPUT.RANDOM_FLIP = "none"
    assert _kinds(lsj_from_config(cfg)) == [T.ResizeScale, T.FixedSizeCrop]


@pytest.mark.parametrize("suffix", ["", "_by_clip"])
def test_clips_are_cropped_resized_flipped_coloured_and_rotated(cfg: CfgNode, suffix: str) -> None:
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (360, 480), f"range{suffix}"
    cfg.INPUT.RANDOM_FLIP = "flip_by_clip" if suffix else "horizontal"
    cfg.INPUT.AUGMENTATIONS = ["rotation", "saturation", "contrast", "brightness"]
    augmentations = clip_from_config(cfg)
    assert _kinds(augmentations) == [
        T.RandomCrop, T.ResizeShortestEdge, T.RandomFlip,
        T.RandomBrightness, T.RandomContrast, T.RandomSaturation, T.RandomRotation,
    ]  # fmt: skip
    _, resize, flip, *colours, rotation = augmentations
    assert resize.is_range and tuple(resize.short_edge_length) == (360, 480)
    assert flip.horizontal and not flip.vertical
    assert {(c.intensity_min, c.intensity_max) for c in colours} == {(0.9, 1.1)}
    assert (rotation.angle, rotation.expand) == ([-15, 15], False)
    assert rotation.center == [(0.4, 0.4), (0.6, 0.6)]


def test_clips_are_only_resized_and_flipped_unless_more_is_asked_for(cfg: CfgNode) -> None:
    assert _kinds(clip_from_config(cfg)) == [T.ResizeShortestEdge, T.RandomFlip]


# Errors


def test_unknown_flip_is_named(cfg: CfgNode) -> None:
    cfg.INPUT.RANDOM_FLIP = "flip_by_clip"
    with pytest.raises(ValueError, match=r"RANDOM_FLIP: expected 'horizontal'.*'flip_by_clip'"):
        lsj_from_config(cfg)


def test_unknown_crop_is_named(cfg: CfgNode) -> None:
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE = True, "square"
    with pytest.raises(ValueError, match=r"CROP\.TYPE: expected one of relative_range.*'square'"):
        shortest_edge_from_config(cfg, area_constraint=True)


def test_unknown_sampling_is_named(cfg: CfgNode) -> None:
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice_by_clip"
    with pytest.raises(ValueError, match=r"SAMPLING: expected 'choice' or 'range'.*'choice_by"):
        shortest_edge_from_config(cfg, area_constraint=True)


def test_unknown_augmentations_of_clips_are_named(cfg: CfgNode) -> None:
    cfg.INPUT.AUGMENTATIONS = ["brightness", "blur"]
    with pytest.raises(ValueError, match=r"AUGMENTATIONS: expected any of brightness, .*got blur"):
        clip_from_config(cfg)


# The drifting camera: values worked out by hand


MOVE = np.array([[1.0, 0.0, 3.0], [0.0, 1.0, -2.0]])  # 3 to the right, 2 up


def _square(value: int = 255) -> np.ndarray:
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 20:36] = value
    return labels


def test_whole_steps_move_whole_pixels() -> None:
    expected = np.zeros((40, 60), np.uint8)
    expected[8:18, 23:39] = 255
    transform = AffineTransform(MOVE)
    np.testing.assert_array_equal(transform.apply_segmentation(_square()), expected)
    image = transform.apply_image(_square()[:, :, None].repeat(3, axis=2))
    np.testing.assert_array_equal(image[:38, 3:, 1], expected[:38, 3:])
    assert (image[:, :3] == 128).all() and (image[38:] == 128).all()  # from outside
    np.testing.assert_allclose(transform.apply_coords(np.array([[20.0, 10.0]])), [[23, 8]])


def test_twice_the_size_about_the_corner() -> None:
    transform = AffineTransform(np.array([[2.0, 0, 0], [0, 2.0, 0]]))
    moved = transform.apply_segmentation(_square())
    assert moved[20:40, 40:60].all() and moved.sum() == 255 * 20 * 20  # cut by the border
    np.testing.assert_allclose(transform.apply_coords(np.array([[36.0, 20.0]])), [[72, 40]])


def test_poses_go_from_start_to_end_in_equal_steps() -> None:
    np.random.seed(3)
    poses = Drift(rotation=20, scale=1.0, shift=0.0).draw(5, (40, 60))
    angles = [math.degrees(math.atan2(p.matrix[0, 1], p.matrix[0, 0])) for p in poses]
    np.testing.assert_allclose(np.diff(angles), (angles[-1] - angles[0]) / 4)
    assert abs(angles[-1] - angles[0]) > 1 and max(map(abs, angles)) <= 20
    for pose in poses:  # about the centre
        np.testing.assert_allclose(pose.apply_coords(np.array([[30.0, 20.0]])), [[30, 20]])


def test_rotation_goes_counterclockwise_and_about_the_centre() -> None:
    quarter = augmentation._pose(90, math.log(2), 0.1, 0, (40, 60))
    points = np.array([[30.0, 20.0], [35.0, 20.0]])  # the centre, and 5 pixels right of it
    np.testing.assert_allclose(quarter.apply_coords(points), [[36, 20], [36, 10]], atol=1e-9)


# The drifting camera: invariants


@pytest.mark.parametrize("seed", range(5))
def test_points_and_labels_move_together(seed: int) -> None:
    np.random.seed(seed)
    (pose,) = Drift().draw(1, (40, 60))
    rows, columns = np.nonzero(pose.apply_segmentation(_square()))
    (x, y) = pose.apply_coords(np.array([[28.0, 15.0]]))[0]
    assert abs(columns.mean() + 0.5 - x) < 0.5 and abs(rows.mean() + 0.5 - y) < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_poses_stay_within_the_limits(seed: int) -> None:
    np.random.seed(seed)
    for pose in Drift(rotation=10, scale=1.5, shift=0.1).draw(8, (40, 60)):
        scale = math.sqrt(np.linalg.det(pose.matrix[:, :2]))
        assert 1 / 1.5 <= scale <= 1.5
        moved = pose.apply_coords(np.array([[30.0, 20.0]]))[0]
        assert abs(moved[0] - 30) <= 6 and abs(moved[1] - 20) <= 4


def test_no_drift_leaves_the_photo_as_it_is() -> None:
    for pose in Drift(0, 1, 0).draw(3, (40, 60)):
        np.testing.assert_array_equal(pose.apply_segmentation(_square()), _square())


# The drifting camera: errors


@pytest.mark.parametrize("settings", [(-1, 1.2, 0.1), (10, 0.9, 0.1), (10, 1.2, -0.1)])
def test_impossible_limits_are_refused(settings) -> None:
    with pytest.raises(ValueError, match=r"PSEUDO_CLIP: expected ROTATION >= 0, SCALE >= 1 and"):
        Drift(*settings)
