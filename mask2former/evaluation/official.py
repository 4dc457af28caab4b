"""Evaluators that run official scripts, those of Cityscapes and LVIS.

The scripts trust their files, and end the process or fail anywhere where one is damaged: here that
is an error that names it.
"""

import glob
import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NoReturn

import detectron2.evaluation as detectron2_evaluation
import numpy as np
from detectron2.data import MetadataCatalog

from ..errors import MissingPackageError, UserError
from ..formats.json_files import read_json
from ..formats.label_maps import read_labels
from .common import check_instances, check_scores


@contextmanager
def _naming(dataset_name: str, path: str) -> Iterator[None]:
    """Turn what a script fails with into a UserError that names the dataset and its files."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of any kind, a bare Exception among them
        if isinstance(error, OSError) and error.errno is not None:  # of the disk
            raise
        raise UserError(
            f"{dataset_name}: the official script cannot score it by {path}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _refuse(text: str) -> NoReturn:
    """Stand in for the scripts' function that prints and ends the process."""
    raise UserError(f"the official script of Cityscapes: {text}")


class _Cityscapes:
    """What the two evaluators of Cityscapes share, beside detectron2's that follows in the bases.

    Args:
        dataset_name: a dataset with gt_dir and, for instances, thing_classes in its metadata.

    Raises:
        ImportError: cityscapesscripts is not installed.
        FileNotFoundError, UserError: on reset and evaluate, the ground truth is missing or damaged.
    """

    _script: str
    _truth: tuple[str, ...]  # how the names of the files end that the script reads

    def __init__(self, dataset_name: str):
        _require("cityscapesscripts", dataset_name)
        super().__init__(dataset_name)  # type: ignore[call-arg]
        self._name = dataset_name
        self._folder: str = MetadataCatalog.get(dataset_name).gt_dir

    def reset(self) -> None:
        for end in self._truth:
            paths = glob.glob(os.path.join(glob.escape(self._folder), "*", f"*_gtFine_{end}"))
            if not paths:
                raise FileNotFoundError(
                    f"{self._name}: {self._folder} has no CITY/*_gtFine_{end}; unpack "
                    "gtFine_trainvaltest.zip there (see datasets/README.md)"
                )
            for path in sorted(paths):  # before a model has run for hours
                _check_labels(path, os.stat(path).st_mtime_ns)
        super().reset()  # type: ignore[misc]

    def evaluate(self) -> dict[str, dict[str, float]]:
        module: Any = importlib.import_module(f"cityscapesscripts.evaluation.{self._script}")
        module.np, module.printError = _NumpyOfOld(), _refuse
        # It writes caches that nobody reads here, one into the current folder, and fails on the
        # numbers of today's numpy while doing so.
        module.writeDict2JSON = lambda value, path: None
        with _naming(self._name, self._folder):
            return super().evaluate() or {}  # type: ignore[misc]


class CityscapesInstanceEvaluator(_Cityscapes, detectron2_evaluation.CityscapesInstanceEvaluator):
    """AP and AP50 by the official scripts, in percent."""

    _script = "evalInstanceLevelSemanticLabeling"
    _truth = ("instanceIds.png",)

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        _check_all_instances(inputs, outputs)
        super().process(inputs, outputs)


class CityscapesSemSegEvaluator(_Cityscapes, detectron2_evaluation.CityscapesSemSegEvaluator):
    """IoU and iIoU of classes and categories by the official scripts, in percent."""

    _script = "evalPixelLevelSemanticLabeling"
    _truth = ("labelIds.png", "instanceIds.png")

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        for image, output in zip(inputs, outputs, strict=True):
            check_scores(output["sem_seg"], output["sem_seg"].argmax(dim=0), image["file_name"])
        super().process(inputs, outputs)


class LVISEvaluator(detectron2_evaluation.LVISEvaluator):
    """AP by LVIS's own API, in percent, also for rare, common and frequent classes.

    Args:
        dataset_name: a dataset with LVIS json as json_file in its metadata.
        tasks, distributed, output_dir, max_dets_per_image: as detectron2 has them.

    Raises:
        ImportError: lvis is not installed.
        FileNotFoundError, UserError: the json is missing, or not of LVIS's form.
    """

    def __init__(self, dataset_name: str, *args: Any, **kwargs: Any):
        _require("lvis", dataset_name)
        self._name, self._path = dataset_name, MetadataCatalog.get(dataset_name).json_file
        read_json(self._path)  # which says what is wrong where it is no json
        with _naming(self._name, self._path):
            super().__init__(dataset_name, *args, **kwargs)

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
        _check_all_instances(inputs, outputs)
        super().process(inputs, outputs)

    def evaluate(self) -> dict[str, dict[str, float]]:
        importlib.import_module("lvis.eval").np = _NumpyOfOld()  # type: ignore[attr-defined]
        with _naming(self._name, self._path):
            return super().evaluate() or {}


@cache
def _check_labels(path: str, changed: int) -> None:
    """Read a label map, which the next evaluation of the same training need not do again."""
    read_labels(path)


def _check_all_instances(inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Any]) -> None:
    for image, output in zip(inputs, outputs, strict=True):
        if "instances" in output:
            check_instances(output["instances"], f"image {image.get('image_id')}")


class _NumpyOfOld:
    """numpy, and names that it dropped (in 1.24 and 2.4) and the scripts still use."""

    float = float

    @staticmethod
    def in1d(array: Any, values: Any, invert: bool = False) -> np.ndarray:
        return np.isin(np.ravel(array), values, invert=invert)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _require(package: str, dataset_name: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingPackageError(
            f"{dataset_name} is scored by {package}, which is not installed: pip install {package}"
        )
