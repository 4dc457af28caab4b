"""The drifting camera: affine transforms of images, labels and points, and the poses drawn."""
# ruff: noqa: NPY002 (detectron2 draws from NumPy's global generator)

import math

import numpy as np
import pytest

from mask2former.data import drift
from mask2former.data.drift import AffineTransform, Drift

MOVE = np.array([[1.0, 0.0, 3.0], [0.0, 1.0, -2.0]])  # 3 to the right, 2 up


def _square(value: int = 255) -> np.ndarray:
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 20:36] = value
    return labels


# Values worked out by hand


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
    quarter = drift._pose(90, math.log(2), 0.1, 0, (40, 60))
    points = np.array([[30.0, 20.0], [35.0, 20.0]])  # the centre, and 5 pixels right of it
    np.testing.assert_allclose(quarter.apply_coords(points), [[36, 20], [36, 10]], atol=1e-9)


# Invariants


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


# Errors


@pytest.mark.parametrize("settings", [(-1, 1.2, 0.1), (10, 0.9, 0.1), (10, 1.2, -0.1)])
def test_impossible_limits_are_refused(settings) -> None:
    with pytest.raises(ValueError, match=r"PSEUDO_CLIP: expected ROTATION >= 0, SCALE >= 1 and"):
        Drift(*settings)
