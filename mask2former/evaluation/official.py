"""detectron2's evaluators that call the official scripts of a dataset, with the numpy of today."""

import importlib
import importlib.util
from typing import Any

import detectron2.evaluation as detectron2_evaluation
import numpy as np


class _Cityscapes:
    """What the two evaluators of Cityscapes share, beside detectron2's that follows in the bases.

    Args:
        dataset_name: a dataset with gt_dir and, for instances, thing_classes in its metadata.

    Raises:
        ImportError: cityscapesscripts is not installed.
    """

    _script: str

    def __init__(self, dataset_name: str):
        _require("cityscapesscripts", dataset_name)
        super().__init__(dataset_name)  # type: ignore[call-arg]

    def evaluate(self) -> dict[str, dict[str, float]]:
        _patch_cityscapes(self._script)
        return super().evaluate() or {}  # type: ignore[misc]


class CityscapesInstanceEvaluator(_Cityscapes, detectron2_evaluation.CityscapesInstanceEvaluator):
    """AP and AP50 by the official scripts, in percent."""

    _script = "evalInstanceLevelSemanticLabeling"


class CityscapesSemSegEvaluator(_Cityscapes, detectron2_evaluation.CityscapesSemSegEvaluator):
    """IoU and iIoU of classes and categories by the official scripts, in percent."""

    _script = "evalPixelLevelSemanticLabeling"


class LVISEvaluator(detectron2_evaluation.LVISEvaluator):
    """AP by LVIS's own API, in percent, also for rare, common and frequent classes.

    Args:
        dataset_name: a dataset with LVIS json as json_file in its metadata.
        tasks, distributed, output_dir, max_dets_per_image: as detectron2 has them.

    Raises:
        ImportError: lvis is not installed.
    """

    def __init__(self, dataset_name: str, *args: Any, **kwargs: Any):
        _require("lvis", dataset_name)
        super().__init__(dataset_name, *args, **kwargs)

    def evaluate(self) -> dict[str, dict[str, float]]:
        importlib.import_module("lvis.eval").np = _NumpyOfOld()  # type: ignore[attr-defined]
        return super().evaluate() or {}


class _NumpyOfOld:
    """numpy, and names that it dropped (in 1.24 and 2.4) and the scripts still use."""

    float = float

    @staticmethod
    def in1d(array: Any, values: Any, invert: bool = False) -> np.ndarray:
        return np.isin(np.ravel(array), values, invert=invert)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _patch_cityscapes(script: str) -> None:
    module: Any = importlib.import_module(f"cityscapesscripts.evaluation.{script}")
    module.np = _NumpyOfOld()
    # It writes caches that nobody reads here, one into the current folder, and fails on the numbers
    # of today's numpy while doing so.
    module.writeDict2JSON = lambda value, path: None


def _require(package: str, dataset_name: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f"{dataset_name} is scored by {package}, which is not installed: pip install {package}"
        )
