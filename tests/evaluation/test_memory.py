"""Evaluators stream: of an image, run-length masks and counts stay in memory, and no maps."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog

from mask2former.data.datasets import register_all
from mask2former.data.synthetic import write_shapes
from mask2former.evaluation import build_evaluator
from tests.evaluation.truth import config, instance_output, panoptic_output, semantic_output

IMAGES, SIZE, FRAMES = 8, 320, 4
# Of the pixels of one image or clip, one byte each: far less than any map of it would take, and
# at this size four times what the run-length masks and boxes of an image take (6 KB).
LARGEST_SHARE = 0.25


@pytest.mark.parametrize(
    "flag",
    ["PANOPTIC", *(pytest.param(x, marks=pytest.mark.slow) for x in ("SEMANTIC", "INSTANCE"))],
)
def test_images_leave_no_maps_behind(tmp_path, catalogs, flag):
    write_shapes(tmp_path, seed=1, train=1, val=IMAGES, size=SIZE, workers=1)
    register_all(str(tmp_path))
    name = "shapes_val_panoptic"
    evaluator = build_evaluator(config(flag), name, str(tmp_path / "out"))

    def output(record):
        return {
            "PANOPTIC": lambda: panoptic_output(record),
            "SEMANTIC": lambda: semantic_output(name, record),
            "INSTANCE": lambda: instance_output(name, record["image_id"]),
        }[flag]()

    growth, outputs = _process(evaluator, DatasetCatalog.get(name), output)
    assert growth < LARGEST_SHARE * SIZE * SIZE
    assert not [ref for ref in outputs if ref() is not None]


def test_clips_leave_no_maps_behind(tmp_path, catalogs):
    write_shapes(
        tmp_path, video=True, seed=1, train=1, val=IMAGES, size=SIZE, frames=FRAMES, workers=1
    )
    register_all(str(tmp_path))
    name = "shapes_video_val"
    cfg = config("INSTANCE")
    evaluator = build_evaluator(cfg, name, str(tmp_path / "out"))
    rng = np.random.default_rng(0)

    def output(record):
        y, x = rng.integers(0, SIZE // 2, 2)
        masks = torch.zeros(3, record["length"], record["height"], record["width"]).bool()
        masks[..., y : y + 40, x : x + 40] = True
        size = (record["height"], record["width"])
        return {
            "image_size": size,
            "pred_scores": [0.9, 0.8, 0.7],
            "pred_labels": [0, 1, 2],
            "pred_masks": list(masks),
        }

    growth, outputs = _process(evaluator, DatasetCatalog.get(name), output)
    assert growth < LARGEST_SHARE * SIZE * SIZE * FRAMES
    assert not [ref for ref in outputs if ref() is not None]


def _process(evaluator, records, output) -> tuple[float, list[weakref.ref]]:
    """Bytes that each image after the first three leaves, and references to the outputs.

    Arrays and Python's objects are counted; tensors are not, hence the references.
    """
    evaluator.reset()
    refs, before = [], 0
    tracemalloc.start()
    try:
        for i, record in enumerate(records):
            found = output(record)
            refs += [weakref.ref(x) for x in _tensors(found)]
            # Clips have one dict for the batch, images a list.
            evaluator.process([record], found if "pred_masks" in found else [found])
            del found
            gc.collect()
            if i == 2:
                before = tracemalloc.get_traced_memory()[0]
        return (tracemalloc.get_traced_memory()[0] - before) / (len(records) - 3), refs
    finally:
        tracemalloc.stop()


def _tensors(output: dict) -> list[torch.Tensor]:
    values = list(output.values())
    if "instances" in output:
        values = list(output["instances"].get_fields().values())
    flat = [x for value in values for x in (value if isinstance(value, (list, tuple)) else [value])]
    return [x for x in flat if isinstance(x, torch.Tensor)]
