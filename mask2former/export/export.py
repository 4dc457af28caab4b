"""From a model to a file of another form, which is checked before it is there."""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from ..config import get_config
from ..config.loading import changed
from ..errors import UserError
from ..formats.atomic import scratch_folder, sync_path
from ..predict import Predictor
from ..runtime.metadata import Metadata
from .description import describe
from .formats import onnx_format, openvino_format, torch_formats
from .graphs import Graph, graph_class
from .parity import check_photos, check_random, prepare_photos, require_parity
from .postprocessing import with_postprocess
from .preparation import prepare
from .program import trace
from .quantization import quantize

logger = logging.getLogger(__name__)

ATTENTION = ("grid_sample", "gather", "bag")
INPUT_TYPES = {"float32": torch.float32, "uint8": torch.uint8}


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffixes: of its files; the first is that of the one that is named.
        attention: how deformable attention is computed in it, see `program.trace`.
        require: raises a MissingPackageError where a package is missing.
        write: from a program, its graph and a path, writes the file without metadata.
        finish: from a path and metadata, puts these into the file.
        open: from a path, returns a function that runs the file.
    """

    suffixes: tuple[str, ...]
    attention: str
    require: Callable[[], None]
    write: Callable[[Any, Graph, Path], None]
    finish: Callable[[Path, Metadata], None]
    open: Callable[[Path], onnx_format.Run]


FORMATS = {
    "onnx": Format(
        (".onnx",),
        "grid_sample",
        onnx_format.require,
        onnx_format.write,
        onnx_format.finish,
        onnx_format.open_file,
    ),
    "pt2": Format(
        (".pt2",),
        "bag",
        torch_formats.require,
        torch_formats.write_program,
        torch_formats.finish,
        torch_formats.open_program,
    ),
    "aoti": Format(
        (".pt2",),
        "bag",
        torch_formats.require,
        torch_formats.write_compiled,
        torch_formats.finish,
        torch_formats.open_compiled,
    ),
    "openvino": Format(
        (".xml", ".bin"),
        "grid_sample",
        openvino_format.require,
        openvino_format.write,
        openvino_format.finish,
        openvino_format.open_file,
    ),
}


def export_model(
    source: CfgNode | str | Predictor | nn.Module,
    path: str | os.PathLike[str],
    format: str = "onnx",
    *,
    cfg: CfgNode | None = None,
    postprocess: str = "",
    input_type: str = "float32",
    int8: bool = False,
    attention: str = "",
    photos: Iterable[Any] = (),
    overwrite: bool = False,
) -> Metadata:
    """Write a model as a file that runs without this package's models.

    Batch, height and width are free; the sides are multiples of the metadata's
    `size_divisibility`. Inputs and outputs: docs/export.md.

    Args:
        source: a config, whose MODEL.WEIGHTS are loaded; the name of one that comes with the
            package, with the published weights; a `Predictor`; or a model, best with its ``cfg``.
        path: the file; its folder must exist.
        format: one of FORMATS.
        cfg: that of a model; without it, images are RGB and resized as by the default config.
        postprocess: "semantic", "panoptic" or "instance" puts merging into the graph.
        input_type: of the images, "float32" or "uint8".
        int8: keep the weights of linear layers as 8-bit integers; in ONNX files.
        attention: how deformable attention is computed, one of ATTENTION; "" for what is fastest
            in the format. "gather" is for converters that mishandle GridSample.
        photos: what file and model are compared on, as `Predictor` takes images; for a model of
            clips, the frames of one. The figures are written into the metadata.
        overwrite: replace a file that is there.

    Returns:
        the metadata.

    Raises:
        UserError: the model cannot be exported, and which part; an option is wrong; or the file
            does not compute what the model does.
        FileExistsError: the file is there.
        FileNotFoundError: its folder, weights or a photo are missing.
        MissingPackageError: a package is missing that the format needs.
    """
    target = Path(path)
    _check_options(target, format, input_type, attention, int8, overwrite)
    FORMATS[format].require()
    predictor = _predictor(source, cfg)
    graph = graph_class(predictor.model)(prepare(predictor.model))
    graph = with_postprocess(graph, postprocess)
    metadata = describe(graph, predictor.cfg, predictor.metadata, postprocess)
    dtype = INPUT_TYPES[input_type]
    _warn_of_padding(graph)
    prepared = prepare_photos(predictor, graph, photos)
    logger.info("recording the model for any batch and size, which takes up to a minute")
    program = trace(graph, dtype, attention or FORMATS[format].attention)
    with scratch_folder(target) as folder:
        part = folder / target.name
        logger.info("writing it as %s, which takes about as long", format)
        FORMATS[format].write(program, graph, part)
        if int8:
            quantize(part)
        logger.info("comparing the file with the model")
        run = FORMATS[format].open(part)
        parity = check_random(graph, run, dtype)
        if prepared:
            parity = check_photos(predictor, graph, run, prepared, dtype)
        if not int8:  # which has no such accuracy
            require_parity(parity, f"{target}: the exported file")
        metadata = replace(metadata, parity=parity)
        FORMATS[format].finish(part, metadata)
        _put_in_place(part, target, FORMATS[format].suffixes)
    return metadata


def _put_in_place(part: Path, target: Path, suffixes: Sequence[str]) -> None:
    """Give the files of an export their names, those first that others need."""
    for suffix in reversed(suffixes):
        sync_path(part.with_suffix(suffix))
        part.with_suffix(suffix).replace(target.with_suffix(suffix))
    sync_path(target.parent)


def _check_options(
    target: Path, format: str, input_type: str, attention: str, int8: bool, overwrite: bool
) -> None:
    """Refuse what cannot be written before anything is built; raises as `export_model`."""
    for value, known, what in (
        (format, FORMATS, "format"),
        (input_type, INPUT_TYPES, "the type of the images"),
        (attention or ATTENTION[0], ATTENTION, "how attention is computed"),
    ):
        if value not in known:
            raise UserError(f"{what} is one of {', '.join(known)}, got {value!r}")
    if int8 and format != "onnx":
        raise UserError(f"8-bit weights are for the format onnx, got {format}")
    if target.suffix != FORMATS[format].suffixes[0]:
        suffix = FORMATS[format].suffixes[0]
        raise UserError(f"{target}: the name of a file of the format {format} ends in {suffix}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Cannot write {target}: the folder {target.parent} is missing.")
    there = [s for s in FORMATS[format].suffixes if target.with_suffix(s).exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"{target.with_suffix(there[0])} is there already; give another name, or overwrite it "
            "(--overwrite)"
        )


def _warn_of_padding(graph: Graph) -> None:
    """Say where the file is given more padding than the model, whose results depend on it."""
    if graph.model_divisibility % graph.divisibility:
        logger.warning(
            "the model pads images to multiples of %d pixels, and its file takes multiples of %d: "
            "where these differ, the file gives what the model gives with so much more padding",
            graph.model_divisibility,
            graph.divisibility,
        )


def _predictor(source: CfgNode | str | Predictor | nn.Module, cfg: CfgNode | None) -> Predictor:
    """Return a predictor of what is exported.

    Raises:
        TypeError: what came is nothing to export.
    """
    if isinstance(source, CfgNode | str):
        return Predictor(source, device="cpu")
    if isinstance(source, Predictor):
        return source
    if not isinstance(source, nn.Module):
        raise TypeError(
            "expected a config, the name of one, a Predictor or a model to export, got "
            f"{type(source).__name__}"
        )
    graph_class(source)
    if cfg is None:
        cfg = changed(get_config(), "INPUT.FORMAT", "RGB")
        logger.warning(
            "a model without its config is exported for RGB images of %d to %d pixels",
            cfg.INPUT.MIN_SIZE_TEST,
            cfg.INPUT.MAX_SIZE_TEST,
        )
    return Predictor.of_model(source, cfg)
