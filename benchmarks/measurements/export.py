"""Exported models beside eager: time, size and agreement of each format and precision.

What of a format's package is absent is left out, and the row says so.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mask2former import Predictor
from mask2former.export import FORMATS, export_model
from mask2former.export.formats.openvino_format import open_file as open_openvino
from mask2former.export.graphs import graph_class
from mask2former.export.parity import as_tuple, largest_difference
from mask2former.export.preparation import prepare

from ..models import panoptic_config, picture, weights_file
from ..timing import Row, compare

SIZE, QUICK_SIZE = (800, 1216), (320, 480)
_PEER = "eager, bf16 autocast"


@dataclass(frozen=True)
class _Candidate:
    """A file: its format, options of `export_model`, and how it is opened."""

    name: str
    format: str
    options: dict[str, Any]
    open: Callable[[Path], Callable[..., list[np.ndarray]]]


CANDIDATES = (
    _Candidate("ONNX Runtime", "onnx", {}, FORMATS["onnx"].open),
    _Candidate("ONNX Runtime, 8-bit linear layers", "onnx", {"int8": True}, FORMATS["onnx"].open),
    _Candidate("OpenVINO, float32", "openvino", {}, open_openvino),
    _Candidate("OpenVINO, bf16", "openvino", {}, lambda path: open_openvino(path, "bf16")),
    _Candidate("program (.pt2)", "pt2", {}, FORMATS["pt2"].open),
    _Candidate("AOTInductor", "aoti", {}, FORMATS["aoti"].open),
)


def measure(rounds: int, quick: bool = False) -> list[Row]:
    """Return a row for each file: its time from images to logits, against eager in bf16."""
    height, width = QUICK_SIZE if quick else SIZE
    cfg = panoptic_config(side=min(height, width))
    predictor = Predictor(cfg, weights=str(weights_file(cfg)), device="cpu")
    graph = graph_class(predictor.model)(prepare(predictor.model))
    eager, lower = _eager(graph), _eager(graph, bf16=True)
    images = torch.from_numpy(picture(height, width).transpose(2, 0, 1)[None].copy()).float()
    expected = as_tuple(eager(images))
    what = f"image {height}x{width} to logits"
    rows = [
        compare(
            f"{what}, eager float32",
            lambda: eager(images),
            lambda: lower(images),
            rounds,
            peer_name=_PEER,
        )
    ]
    with tempfile.TemporaryDirectory() as folder:
        for candidate in CANDIDATES:
            try:
                run, size = _opened(predictor, candidate, Path(folder))
            except ImportError:
                continue
            found = largest_difference(run(images.numpy()), expected)
            row = compare(
                f"{what}, {candidate.name}: {size / 1e6:.0f} MB, logits differ by {found:.1g}",
                lambda run=run: run(images.numpy()),
                lambda: lower(images),
                rounds,
                peer_name=_PEER,
                min_ratio=None,
            )
            rows.append(row)
    return rows


def _eager(graph: torch.nn.Module, bf16: bool = False) -> Callable[[torch.Tensor], Any]:
    @torch.no_grad()
    def run(images: torch.Tensor) -> Any:
        decoder = graph.model.sem_seg_head.pixel_decoder
        decoder.autocast_in_eval = bf16
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return graph(images)

    return run


def _opened(
    predictor: Predictor, candidate: _Candidate, folder: Path
) -> tuple[Callable[..., list[np.ndarray]], int]:
    """Export a file, unless another candidate has, and open it; return what runs it, and its size
    in bytes."""
    suffixes = FORMATS[candidate.format].suffixes
    name = "_".join((candidate.format, *candidate.options))
    path = (folder / name).with_suffix(suffixes[0])
    if not path.exists():
        export_model(predictor, path, candidate.format, **candidate.options)
    size = sum(path.with_suffix(s).stat().st_size for s in suffixes)
    return candidate.open(path), size
