"""A session of onnxruntime over an exported file, and the choice of what it runs on."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import MissingPackageError, UserError
from ..formats.atomic import PathLike
from ..threads import threads_of_quota
from .metadata import Metadata
from .outputs import Outputs

logger = logging.getLogger(__name__)

Provider = str | tuple[str, Mapping[str, Any]]


class Session:
    """An exported model, ready to run.

    Args:
        path: the file.
        metadata: of the file.
        providers: names of execution providers, with options where wanted, the preferred one
            first; None for all that onnxruntime has, in its order.
        threads: that an operator may use; 0 for as many as there are cores, or as the
            container's quota of CPUs allows.

    Attributes:
        providers: names of those in use.
        dtype: of the images, uint8 or float32.

    Raises:
        MissingPackageError: onnxruntime is missing.
        UserError: a provider is not there, or onnxruntime cannot run the file.
    """

    def __init__(
        self,
        path: PathLike,
        metadata: Metadata,
        providers: Sequence[Provider] | None = None,
        threads: int = 0,
    ):
        onnxruntime = _import_onnxruntime()
        wanted = _choose(providers, onnxruntime.get_available_providers())
        self._path = path
        self._outputs = Outputs(path, metadata)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or threads_of_quota() or 0
        options.log_severity_level = 3  # errors: warnings are about how it optimizes
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, wanted)
        except Exception as error:  # of onnxruntime's own kinds, which have no common parent
            raise UserError(f"{path}: onnxruntime cannot run this file: {error}") from error
        self.providers: list[str] = self._session.get_providers()
        names = [p if isinstance(p, str) else p[0] for p in wanted]
        if providers is not None and names[0] not in self.providers:
            logger.warning("%s cannot run this model here: %s does", names[0], self.providers[0])
        self.dtype = self._check(path, metadata)

    def _check(self, path: PathLike, metadata: Metadata) -> type[np.generic]:
        """Return the type of the images, after a check of the names of inputs and outputs."""
        found = [
            tuple(value.name for value in values)
            for values in (self._session.get_inputs(), self._session.get_outputs())
        ]
        if found != list(metadata.names):
            expected = " -> ".join(map(", ".join, metadata.names))
            raise UserError(
                f"{path}: expected the inputs and outputs {expected}, got "
                f"{' -> '.join(map(', '.join, found))}"
            )
        is_uint8 = self._session.get_inputs()[0].type == "tensor(uint8)"
        return np.uint8 if is_uint8 else np.float32

    def __call__(self, **inputs: np.ndarray) -> list[np.ndarray]:
        """Return the outputs, in the order of the metadata's kind.

        Raises:
            UserError: onnxruntime fails, or the outputs are not those of the metadata.
        """
        try:
            found = self._session.run(None, inputs)
        except Exception as error:  # as above, lack of memory among them
            shape = inputs["images"].shape
            raise UserError(
                f"{self._path}: onnxruntime cannot run this file on images {shape}: {error}"
            ) from error
        self._outputs.check(inputs, found)
        return found


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "mask2former.runtime needs onnxruntime: pip install 'mask2former[runtime]', or "
            "onnxruntime-gpu for GPUs"
        ) from error
    return onnxruntime


def _choose(providers: Sequence[Provider] | None, available: Sequence[str]) -> list[Any]:
    """Return the providers to use.

    Raises:
        UserError: one is not there.
    """
    if providers is None:
        return list(available)
    wanted = [providers] if isinstance(providers, str) else list(providers)
    names = [p if isinstance(p, str) else p[0] for p in wanted]
    missing = [name for name in names if name not in available]
    if missing or not wanted:
        raise UserError(
            f"providers: expected some of {', '.join(available)}, which this onnxruntime has, got "
            f"{', '.join(missing) or 'none'}. Others come with other packages, such as "
            "onnxruntime-gpu."
        )
    return wanted
