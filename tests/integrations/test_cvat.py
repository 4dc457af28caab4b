"""The function that CVAT calls: its labels, its shapes, and that CVAT's own loader takes it."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mask2former import Predictor
from mask2former.results.segments import segments_of

cvataa = pytest.importorskip("cvat_sdk.auto_annotation", reason="CVAT's SDK is not installed")

from cvat_sdk.masks import decode_mask  # noqa: E402

from mask2former.integrations.cvat import Mask2FormerFunction, create  # noqa: E402


def context(threshold: float | None = 0.0, polygons: bool = False) -> SimpleNamespace:
    return SimpleNamespace(conf_threshold=threshold, conv_mask_to_poly=polygons, frame_name="a")


def test_masks_are_those_of_the_model(predictor: Predictor, files: Path) -> None:
    function = Mask2FormerFunction(predictor)
    names = {label.id: label.name for label in function.spec.labels}
    assert set(names.values()) >= set(predictor.metadata.stuff_classes)
    shapes = function.detect(context(), Image.open(files / "street.jpg"))
    expected = segments_of(predictor(files / "street.jpg"), predictor.metadata)["instance"]
    assert len(shapes) == len(expected) > 0
    for shape, segment in zip(shapes, expected):
        assert names[shape.label_id] == segment.name and shape.type.value == "mask"
        mask = decode_mask(shape.points, image_width=64, image_height=48)
        assert np.array_equal(mask, segment.mask)


def test_thresholds_and_polygons(predictor: Predictor, files: Path) -> None:
    function, image = Mask2FormerFunction(predictor), Image.open(files / "street.jpg")
    scores = predictor(files / "street.jpg")["instances"].scores
    assert len(function.detect(context(None), image)) == int((scores >= 0.5).sum())
    assert function.detect(context(1.0), image) == []
    polygons = function.detect(context(polygons=True), image)
    assert {shape.type.value for shape in polygons} == {"polygon"}
    for shape in polygons:
        x, y = np.array(shape.points).reshape(-1, 2).T
        assert len(x) >= 3 and x.max() < 64 and y.max() < 48


def test_as_the_command_line_loads_it(files: Path) -> None:
    common = pytest.importorskip("cvat_cli._internal.common", reason="CVAT's CLI is missing")
    loader = common.FunctionLoader(
        "mask2former.integrations.cvat",
        None,
        {
            "config_file": str(files / "config.yaml"),
            "weights": str(files / "model_final.pth"),
            "device": "cpu",
        },
    )
    function = loader.load()
    assert isinstance(function, Mask2FormerFunction)
    assert isinstance(function.spec, cvataa.DetectionFunctionSpec)
    assert create(files / "config.yaml", files / "model_final.pth", "cpu").spec == function.spec
