"""Exported models beside eager: time, size and agreement of each format and precision.

One model is exported, for any size, and its files are timed at each size. What several files need,
a trace or the ONNX file, is made once. Files whose package is absent are left out.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mask2former import Predictor
from mask2former.export import FORMATS
from mask2former.export.formats import openvino_format
from mask2former.export.graphs import Graph, graph_class
from mask2former.export.parity import as_tuple, largest_difference
from mask2former.export.preparation import prepare
from mask2former.export.program import trace
from mask2former.export.quantization import quantize

from ..models import panoptic_config, picture, quick_start_config, weights_file
from ..report import has_bf16
from ..timing import Row, compare, seconds

SIZES = ((800, 1216), (128, 128))  # the second is that of the quick start's pictures
QUICK_SIZES = SIZES[1:]
_PEER = "eager, float32"

Open = Callable[[Path], Callable[..., list[np.ndarray]]]


@dataclass(frozen=True)
class _File:
    """A file that was written: its name, the seconds that it took, and what runs it by name."""

    name: str
    path: Path
    suffixes: tuple[str, ...]
    seconds: float
    readers: Mapping[str, Open]

    @property
    def row(self) -> Row:
        """The row about its making."""
        size = sum(self.path.with_suffix(s).stat().st_size for s in self.suffixes)
        what = f"export to {self.name}: {size / 1e6:.1f} MB"
        return {"what": what, "unit": "s", "ours": self.seconds}


def measure(
    rounds: int, quick: bool = False, formats: Collection[str] = ("onnx", "openvino", "pt2")
) -> Iterator[Row]:
    """Yield a row for each file, the time to write it, and one for each size, the time from images
    to logits against eager in float32; and what eager takes in bf16, once, where the processor has
    it.

    Args:
        rounds: pairs of each comparison, two at most: there are a dozen.
        quick: the quick-start model and size instead of R50's, without the format pt2.
        formats: of `FORMATS`.
    """
    cfg = quick_start_config() if quick else panoptic_config()
    predictor = Predictor(cfg, weights=str(weights_file(cfg)), device="cpu")
    graph = graph_class(predictor.model)(prepare(predictor.model))
    images = {size: _images(size) for size in (QUICK_SIZES if quick else SIZES)}
    eager, lower = _eager(graph), _eager(graph, bf16=True)

    def compared(name: str, run: Callable[[Tensor], Any], size: tuple[int, int]) -> Row:
        works = (partial(f, images[size]) for f in (run, eager))
        return compare(_what(size, name), *works, min(rounds, 2), peer_name=_PEER)

    for size, batch in images.items() if has_bf16("cpu") else ():
        eager(batch)
        ours, peer = (seconds(partial(f, batch)) for f in (lower, eager))
        row = {"what": _what(size, "eager, bf16 autocast"), "unit": "s", "peer_name": _PEER}
        yield row | {"ours": ours, "peer": peer, "ratio": peer / ours}
    with tempfile.TemporaryDirectory() as folder:
        for file in _written(
            graph, Path(folder), [x for x in formats if not (quick and x == "pt2")]
        ):
            yield file.row
            for name, reader in file.readers.items():
                run = reader(file.path)
                for size, batch in images.items():
                    found = largest_difference(run(batch.numpy()), as_tuple(eager(batch)))
                    title = f"{name}; logits differ by {found:.1g}"
                    yield compared(title, lambda x, run=run: run(x.numpy()), size)


def _what(size: tuple[int, int], name: str) -> str:
    return f"image {size[0]}x{size[1]} to logits, {name}"


def _written(graph: Graph, folder: Path, formats: Collection[str]) -> Iterator[_File]:
    """Write a graph to files, each when it is asked for."""
    if "onnx" in formats:
        yield from _onnx_files(graph, folder, "openvino" in formats)
    torch_formats = [format for format in ("pt2", "aoti") if format in formats]
    if torch_formats:
        program, traced = _timed(trace, graph, torch.float32, FORMATS["pt2"].attention)
    for format in torch_formats:
        path = folder / f"{format}.pt2"
        more = _timed(FORMATS[format].write, program, graph, path)[1]
        name = {"pt2": "program (.pt2)", "aoti": "AOTInductor"}[format]
        yield _File(name, path, (".pt2",), traced + more, {name: FORMATS[format].open})


def _onnx_files(graph: Graph, folder: Path, with_openvino: bool) -> Iterator[_File]:
    """Write an ONNX file and those that are made of it, each with the seconds of all it needs."""
    program, traced = _timed(trace, graph, torch.float32, FORMATS["onnx"].attention)
    path = folder / "model.onnx"
    seconds = traced + _timed(FORMATS["onnx"].write, program, graph, path)[1]
    readers = {"ONNX Runtime": FORMATS["onnx"].open}
    yield _File("ONNX", path, (".onnx",), seconds, readers)

    copied = Path(shutil.copyfile(path, folder / "int8.onnx"))
    more = _timed(quantize, copied)[1]
    readers = {"ONNX Runtime, 8-bit linear layers": FORMATS["onnx"].open}
    yield _File("ONNX with 8-bit linear layers", copied, (".onnx",), seconds + more, readers)

    if with_openvino and find_spec("openvino"):
        target = folder / "model.xml"
        more = _timed(openvino_format.convert, path, target)[1]
        readers = {
            f"OpenVINO, {name}": partial(openvino_format.open_file, precision=precision)
            for name, precision in (("float32", "f32"), ("bf16", "bf16"))
        }
        suffixes = FORMATS["openvino"].suffixes
        yield _File("OpenVINO", target, suffixes, seconds + more, readers)


def _timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Return a result, and the seconds that it took."""
    start = time.perf_counter()
    return work(*arguments), time.perf_counter() - start


def _images(size: tuple[int, int]) -> Tensor:
    return torch.from_numpy(picture(*size).transpose(2, 0, 1)[None].copy()).float()


def _eager(graph: Graph, bf16: bool = False) -> Callable[[Tensor], Any]:
    @torch.no_grad()
    def run(images: Tensor) -> Any:
        decoder = graph.model.sem_seg_head.pixel_decoder
        decoder.autocast_in_eval = bf16
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return graph(images)

    return run
