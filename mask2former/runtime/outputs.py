"""Whether an exported file gives what its metadata say: the types, shapes and values of outputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..formats.atomic import PathLike
from .metadata import Metadata

# The axes of each output, a letter for each: B images, T frames, N masks, H W of the canvas, K
# classes, L those and no-object. The others are free, and the same in all outputs of a file.
_LOGITS = {
    "image": ("BQL", "BQhw"),
    "clip": ("QL", "QThw", "QC"),
    "per_pixel": ("BKhw",),
    "given_masks": ("BNL",),
}
_MERGED = {
    "semantic": ("BHW",),
    "panoptic": ("BHW", "BQ", "B"),
    "instance": ("BQHW", "BQ4", "BQ", "BQ", "B"),
}
_FLOATING = {"boxes", "scores"}  # of those that the graph merges; others are whole numbers


class Outputs:
    """What a file gives, with the check of it.

    Args:
        path: of the file.
        metadata: of the file.
    """

    def __init__(self, path: PathLike, metadata: Metadata):
        self.path = path
        self.names = metadata.names[1]
        self.merged = metadata.postprocess
        self.num_classes = len(metadata.class_names)
        axes = _MERGED[self.merged] if self.merged else _LOGITS[metadata.kind]
        self.axes = axes[: len(self.names)]

    def check(self, inputs: Mapping[str, np.ndarray], outputs: Sequence[Any]) -> None:
        """Check what the file gives for some inputs.

        Raises:
            UserError: an output is not of the type, shape or values that the metadata mean.
        """
        count, _, height, width = inputs["images"].shape
        sizes = {"B": count, "T": count, "H": height, "W": width, "4": 4}
        sizes |= {"K": self.num_classes, "L": self.num_classes + 1}
        if "masks" in inputs:
            sizes["N"] = inputs["masks"].shape[1]
        for name, axes, value in zip(self.names, self.axes, outputs):
            kinds = "f" if not self.merged or name in _FLOATING else "iub"
            shape = getattr(value, "shape", ())
            expected = [sizes.get(letter, letter) for letter in axes]
            fits = len(shape) == len(axes) and all(
                size == sizes.setdefault(letter, max(size, 1))  # what is free is known from here on
                for letter, size in zip(axes, shape)
            )
            if not fits or value.dtype.kind not in kinds:
                of_type = "floating numbers" if kinds == "f" else "whole numbers"
                raise self._error(
                    f"{name} ({', '.join(map(str, expected))}) of {of_type}",
                    f"{tuple(shape)} of {getattr(value, 'dtype', type(value).__name__)}",
                )
        if self.merged:
            self._check_values(dict(zip(self.names, outputs)))

    def _check_values(self, found: Mapping[str, np.ndarray]) -> None:
        """Check numbers of classes and segments, which are looked up."""
        if "class_map" in found:
            self._require("class_map", found["class_map"], -1, self.num_classes - 1)
            return
        classes = found["segment_classes" if "segment_ids" in found else "classes"]
        self._require("count", found["count"], 0, classes.shape[1])
        for i, count in enumerate(found["count"].tolist()):
            self._require("classes", classes[i, :count], 0, self.num_classes - 1)
            if "segment_ids" in found:
                self._require("segment_ids", found["segment_ids"][i], 0, count)

    def _require(self, name: str, values: np.ndarray, low: int, high: int) -> None:
        if values.size and not low <= values.min() <= values.max() <= high:
            raise self._error(f"{name} from {low} to {high}", f"{values.min()} to {values.max()}")

    def _error(self, expected: str, found: str) -> UserError:
        return UserError(
            f"{self.path}: expected {expected}, as its metadata say, got {found}: its graph is not "
            "the one that was exported; export the model anew"
        )
