"""detectron2's Cityscapes evaluators, on a CPU and with the numpy of today."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import detectron2.evaluation as detectron2_evaluation
import numpy as np


class CityscapesInstanceEvaluator(detectron2_evaluation.CityscapesInstanceEvaluator):
    """AP and AP50 by the official scripts, in percent.

    Args:
        dataset_name: a data set with gt_dir and thing_classes in its metadata.

    Raises:
        ImportError: cityscapesscripts is not installed.
    """

    def __init__(self, dataset_name: str):
        require_package("cityscapesscripts", dataset_name)
        super().__init__(dataset_name)

    def evaluate(self) -> dict[str, dict[str, float]]:
        _mend("evalInstanceLevelSemanticLabeling")
        return super().evaluate() or {}


class CityscapesSemSegEvaluator(detectron2_evaluation.CityscapesSemSegEvaluator):
    """IoU and iIoU of classes and categories by the official scripts, in percent.

    Args:
        dataset_name: a data set with gt_dir in its metadata.

    Raises:
        ImportError: cityscapesscripts is not installed.
    """

    def __init__(self, dataset_name: str):
        require_package("cityscapesscripts", dataset_name)
        super().__init__(dataset_name)

    def evaluate(self) -> dict[str, dict[str, float]]:
        _mend("evalPixelLevelSemanticLabeling")
        return super().evaluate() or {}


def require_package(package: str, dataset_name: str) -> None:
    """Raises an ImportError that says how to get a package that is not installed."""
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f"{dataset_name} is scored by {package}, which is not installed: pip install {package}"
        )


class _NumpyWithIn1d:
    """numpy, and the function ``in1d`` that numpy 2.4 dropped and the scripts call."""

    @staticmethod
    def in1d(array: Any, values: Any, invert: bool = False) -> np.ndarray:
        return np.isin(np.ravel(array), values, invert=invert)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _mend(script: str) -> None:
    module: Any = importlib.import_module(f"cityscapesscripts.evaluation.{script}")
    if not hasattr(np, "in1d"):
        module.np = _NumpyWithIn1d()
    # It writes caches that nobody reads here, one into the current folder, and fails on the numbers
    # of today's numpy while doing so.
    module.writeDict2JSON = lambda value, path: None
