"""Resizing: agreement with detectron2's images and torch's maps, by any rows, in any order."""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T

from mask2former.modeling.postprocessing.canvas import Canvas as TorchCanvas
from mask2former.runtime.resizing import Canvas, Resized, resize_image, shortest_edge

SIZES = [(480, 640), (640, 480), (333, 1000), (7, 9000), (1, 1), (100, 100), (2001, 1500)]


@pytest.mark.parametrize("rule", [(800, 1333), (128, 512), (0, 100), (600, 600)])
@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_those_of_detectron2(size, rule):
    transform = T.ResizeShortestEdge([rule[0]] * 2, rule[1]).get_transform(np.empty((*size, 3)))
    expected = size
    if not isinstance(transform, T.NoOpTransform):
        expected = (max(1, transform.new_h), max(1, transform.new_w))
    assert shortest_edge(size, *rule) == expected


@pytest.mark.parametrize("size", [(40, 61), (13, 20), (26, 41)])
def test_images_are_those_of_detectron2(size):
    image = np.random.default_rng(0).integers(0, 256, (26, 41, 3), np.uint8)
    expected = T.ResizeTransform(26, 41, *size).apply_image(image)
    np.testing.assert_array_equal(resize_image(image, size), expected)


CANVASES = [
    ((64, 96), (50, 91), (201, 150)),  # enlarged
    ((64, 96), (64, 96), (64, 96)),
    ((64, 96), (60, 80), (7, 9)),  # reduced
    ((64, 96), (1, 1), (5, 3)),
    ((16, 24), (16, 24), (700, 900)),  # several blocks
]


@pytest.mark.parametrize("sizes", CANVASES)
def test_maps_are_those_of_torch(sizes):
    maps = np.random.default_rng(0).normal(0, 5, (7, 16, 24)).astype(np.float32)
    expected = TorchCanvas(*sizes).resize_to_output(torch.from_numpy(maps)).numpy()
    found = np.full(expected.shape, np.nan, np.float32)
    for rows, block in Resized(maps, Canvas(*sizes)).blocks():
        found[:, rows] = block
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_rows_in_any_order():
    maps = np.random.default_rng(0).normal(0, 5, (3, 16, 24)).astype(np.float32)
    canvas = Canvas((64, 96), (50, 91), (90, 70))
    resized, whole = Resized(maps, canvas), Resized(maps, canvas)[:, :]
    for rows in (slice(40, 50), slice(3, 9), slice(0, 90), slice(80, 90), slice(8, 12)):
        np.testing.assert_allclose(resized[:, rows], whole[:, rows], atol=1e-5)


def test_half_precision_is_computed_in_single():
    maps = np.array([[[0, 1]]], np.float16)
    found = Resized(maps, Canvas((1, 4), (1, 4), (1, 4)))[:, :]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[[0, 0.25, 0.75, 1]]])
