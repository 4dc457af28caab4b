"""What the results of a job depend on, so that no job goes on with something else."""

import difflib
import hashlib
import importlib.metadata
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

_PACKAGES = ("torch", "torchvision", "detectron2", "timm", "numpy", "pillow")


def fingerprint(cfg: CfgNode, inputs: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return plain values that are equal where two runs give the same results.

    Args:
        cfg: the config, with MODEL.WEIGHTS.
        inputs: as the user gave them.
        more: other settings that count, of json's types.

    Raises:
        FileNotFoundError: the weights are missing.
    """
    weights = cfg.MODEL.WEIGHTS
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = cfg.MODEL.WEIGHTS = cfg.OUTPUT_DIR = ""  # say where, not what
    return {
        "config": cfg.dump().splitlines(),
        "weights": _digest(weights) if weights else "none: random ones of a fixed seed",
        "inputs": [_absolute(text) for text in inputs],
        "versions": {"mask2former": _own_version()} | {p: _version(p) for p in _PACKAGES},
        **more,
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say in which settings two fingerprints differ, a line each."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if key == "config" and isinstance(before, list):
            lines_before = [str(line) for line in before]
            changed = difflib.unified_diff(lines_before, after or [], n=0, lineterm="")
            shown = [line for line in changed if line[:3] not in ("---", "+++", "@@ ")][:6]
            lines.append("config (- then, + now): " + "; ".join(shown))
        else:
            lines.append(f"{key}: {before!s:.500} then, {after!s:.500} now")
    return lines


def _digest(weights: str) -> str:
    """Return the SHA-256 of a file of weights."""
    with open(PathManager.get_local_path(weights), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _absolute(text: str) -> str:
    return f"@{os.path.abspath(text[1:])}" if text.startswith("@") else os.path.abspath(text)


def _own_version() -> str:
    """Return the version of this package, whose top is above what may be imported here."""
    return sys.modules[__name__.partition(".")[0]].__version__


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
