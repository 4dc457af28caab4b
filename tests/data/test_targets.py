"""Targets from label maps, panoptic maps and annotations, against a mask at a time by hand."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import transforms as T

from mask2former.data.geometry import Geometry
from mask2former.data.targets import (
    Targets,
    compact_ids,
    instance_targets,
    panoptic_targets,
    relabel,
    semantic_targets,
)

LABELS = np.array([[0, 0, 3], [255, 2, 3]], np.uint8)
IDS = np.array([[7, 7, 0], [65536, 900, 900]], np.int32)
SEGMENTS = [
    {"id": 900, "category_id": 4},
    {"id": 7, "category_id": 1, "iscrowd": 0},
    {"id": 65536, "category_id": 1, "iscrowd": 1},
]
SQUARE = [[2.0, 3.0, 6.0, 3.0, 6.0, 8.0, 2.0, 8.0]]


def _bitmap(seed: int, size: tuple[int, int] = (12, 10)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 2, (size[0] // 2, size[1] // 2), np.uint8)
    return coarse.repeat(2, 0).repeat(2, 1)


# Values worked out by hand


def test_semantic_targets_are_the_classes_that_occur() -> None:
    targets = semantic_targets(LABELS, 255, (3, 4))
    assert targets.classes.tolist() == [0, 2, 3]
    assert targets.classes.dtype == np.int64
    expected = np.zeros((3, 3, 4), bool)
    expected[0, 0, :2] = expected[1, 1, 1] = expected[2, :2, 2] = True
    np.testing.assert_array_equal(targets.masks, expected)
    assert targets.inside.all()


def test_large_labels_take_no_memory() -> None:
    no_data = 2**31 - 1
    labels = np.array([[0, no_data]], np.int32)
    assert semantic_targets(labels, no_data, (1, 2), 3).classes.tolist() == [0]
    with pytest.raises(ValueError, match=f"the label map has class {no_data}"):
        semantic_targets(labels, 255, (1, 2), 3)
    noise = np.arange(4_000_000, dtype=np.int32).reshape(
        2000, 2000
    )  # a mask for each would be 16 TB
    with pytest.raises(ValueError, match="the label map has class 3"):
        semantic_targets(noise, 255, noise.shape, 3)


def test_numbers_of_classes_are_replaced_and_others_ignored() -> None:
    labels = np.array([[0, 7, 70000], [9, 300, 8]], np.int32)
    expected = [[65535, 1, 65535], [0, 2, 65535]]
    np.testing.assert_array_equal(relabel(labels, [9, 7, 300], 65535), expected)
    small = labels.clip(0, 200).astype(np.uint8)
    expected = [[255, 1, 255], [0, 255, 255]]
    np.testing.assert_array_equal(relabel(small, [9, 7, 300], 255), expected)


def test_semantic_map_of_ignored_pixels_has_no_target() -> None:
    targets = semantic_targets(np.full((2, 2), 65535, np.uint16), 65535, (2, 2))
    assert targets.classes.shape == (0,)
    assert targets.masks.shape == (0, 2, 2)


def test_ids_become_places_in_the_list() -> None:
    codes = compact_ids(IDS, SEGMENTS)
    assert codes.dtype == np.uint8
    np.testing.assert_array_equal(codes, [[2, 2, 0], [3, 1, 1]])


def test_panoptic_targets_leave_crowd_out_and_keep_segments_without_pixels() -> None:
    codes = np.array([[0, 0, 0], [3, 1, 1]], np.uint8)  # segment 7 was cropped away
    targets = panoptic_targets(codes, SEGMENTS, (2, 4))
    assert targets.classes.tolist() == [4, 1]
    assert targets.masks.tolist() == [[[0, 0, 0, 0], [0, 1, 1, 0]], [[0] * 4, [0] * 4]]
    assert targets.inside.tolist() == [True, False]


def test_panoptic_map_of_void_has_no_target() -> None:
    codes = compact_ids(np.zeros((2, 3), np.int32), [])
    assert panoptic_targets(codes, [], (2, 3)).masks.shape == (0, 2, 3)


def test_boxes_are_tight() -> None:
    masks = np.zeros((2, 5, 6), bool)
    masks[0, 1, 2] = masks[0, 3, 4] = True
    targets = Targets(np.zeros(2, np.int64), masks, np.ones(2, bool))
    assert targets.boxes().tolist() == [[2, 1, 5, 4], [0, 0, 0, 0]]
    assert targets.boxes().dtype == np.float32


def test_instances_of_all_forms_keep_their_order() -> None:
    bitmap = _bitmap(0)
    annotations = [
        {"category_id": 5, "segmentation": mask_util.encode(np.asfortranarray(bitmap))},
        {"category_id": 6, "segmentation": [[1.0, 2.0]]},  # dropped
        {"category_id": 7, "segmentation": SQUARE},
        {"category_id": 8, "segmentation": SQUARE, "iscrowd": 1},
        {"category_id": 9, "segmentation": 1 - bitmap, "iscrowd": 0},
    ]
    targets = instance_targets(annotations, Geometry([], (12, 10)), (12, 10), (13, 11))
    assert targets.classes.tolist() == [5, 7, 9]
    np.testing.assert_array_equal(targets.masks[0, :12, :10], bitmap)
    assert targets.masks[1, 3:8, 2:6].all() and targets.masks[1].sum() == 20
    np.testing.assert_array_equal(targets.masks[2, :12, :10], 1 - bitmap)
    assert not targets.masks[:, 12:].any() and not targets.masks[:, :, 10:].any()
    crowd = instance_targets(annotations, Geometry([], (12, 10)), (12, 10), (13, 11), crowd=True)
    assert crowd.classes.tolist() == [8]


def test_an_image_without_annotations_has_no_target() -> None:
    targets = instance_targets([], Geometry([], (4, 5)), (4, 5), (6, 6))
    assert targets.classes.shape == (0,) and targets.classes.dtype == np.int64
    assert targets.masks.shape == (0, 6, 6) and targets.masks.dtype == bool
    assert targets.boxes().shape == (0, 4)


# Against one mask at a time


CHAIN = [T.HFlipTransform(10), T.ResizeTransform(12, 10, 31, 26), T.CropTransform(3, 4, 20, 18)]


@pytest.mark.parametrize("count", [1, 8, 9, 17])
def test_bitmaps_move_as_each_would_alone(count: int) -> None:
    bitmaps = [_bitmap(seed) for seed in range(count)]
    annotations = [{"category_id": 0, "segmentation": bitmap} for bitmap in bitmaps]
    targets = instance_targets(annotations, Geometry(CHAIN, (12, 10)), (18, 20), (18, 20))
    for bitmap, mask in zip(bitmaps, targets.masks):
        np.testing.assert_array_equal(mask, T.TransformList(CHAIN).apply_segmentation(bitmap))
    np.testing.assert_array_equal(targets.inside, targets.masks.any(axis=(1, 2)))


def test_polygons_move_as_points() -> None:
    annotations = [
        {"category_id": 0, "segmentation": [*SQUARE, [0.0, 0.0, 9.0, 0.0, 0.0, 11.0]]},
        {"category_id": 1, "segmentation": [[8.0, 9.0, 10.0, 9.0, 10.0, 12.0]]},
    ]
    targets = instance_targets(annotations, Geometry(CHAIN, (12, 10)), (18, 20), (18, 20))
    for annotation, mask in zip(annotations, targets.masks):
        moved = [
            T.TransformList(CHAIN).apply_coords(np.array(p).reshape(-1, 2)).reshape(-1)
            for p in annotation["segmentation"]
        ]
        rle = mask_util.merge(mask_util.frPyObjects(moved, 18, 20))
        np.testing.assert_array_equal(mask, mask_util.decode(rle))


@pytest.mark.parametrize("count", [3, 255, 256, 700])
def test_ids_of_many_segments_are_compacted(count: int) -> None:
    rng = np.random.default_rng(count)
    listed = rng.choice(2**24 - 1, count, replace=False) + 1
    ids = np.concatenate([listed, np.zeros(20), rng.choice(listed, 1000)]).astype(np.int32)
    ids = rng.permutation(ids)[: len(ids) // 4 * 4].reshape(4, -1)
    ids[0, :count] = listed[: ids.shape[1]]
    present = np.unique(ids)
    segments = [{"id": int(i)} for i in rng.permutation(listed) if i in present]
    codes = compact_ids(ids, segments)
    table = np.array([0] + [segment["id"] for segment in segments])
    np.testing.assert_array_equal(table[codes], ids)


# Errors


def test_a_pixel_of_an_unlisted_segment_is_an_error() -> None:
    with pytest.raises(ValueError, match="segment 7: the segment has 2 pixels and is not listed"):
        compact_ids(IDS, [SEGMENTS[0], SEGMENTS[2]])


def test_a_listed_segment_without_a_pixel_is_an_empty_target() -> None:
    segments = [*SEGMENTS, {"id": 33, "category_id": 6}]
    codes = compact_ids(IDS, segments)
    np.testing.assert_array_equal(codes, compact_ids(IDS, SEGMENTS))
    targets = panoptic_targets(codes, segments, (2, 3))
    assert targets.classes.tolist() == [4, 1, 6]
    assert targets.masks.any(axis=(1, 2)).tolist() == [True, True, False]


def test_labels_of_any_size_need_no_memory() -> None:
    labels = np.array([[2**31 - 1, 3]], np.int32)
    assert semantic_targets(labels, 255, (1, 2)).classes.tolist() == [3, 2**31 - 1]


def test_a_segment_listed_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="more than once"):
        compact_ids(IDS, [*SEGMENTS, SEGMENTS[0]])
