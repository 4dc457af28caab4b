"""Export a model to a file: ``python -m mask2former.export --config-file C --output model.onnx``.

Examples:

    python -m mask2former.export --config-file output/config.yaml --output model.onnx \\
        --check photos/*.jpg --opts MODEL.WEIGHTS output/model_final.pth
    python -m mask2former.export --config-file c.yaml --output model.pt2 --format aoti
    python -m mask2former.export --config-file c.yaml --output one.onnx --with-postprocess panoptic
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from ..config import load_config
from ..errors import one_line
from .export import ATTENTION, FORMATS, INPUT_TYPES, export_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return 0; what a user can put right ends it with one line."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("mask2former.export").setLevel(logging.INFO)
    with one_line("mask2former.export"):
        metadata = export_model(
            load_config(args.config_file, args.opts),
            args.output,
            args.format,
            postprocess=args.with_postprocess,
            input_type=args.input_type,
            int8=args.int8,
            attention=args.attention,
            photos=args.check,
            overwrite=args.overwrite,
        )
    figures = ", ".join(f"{name} {value:.3g}" for name, value in metadata.parity.items())
    size = args.output.stat().st_size / 1e6
    print(f"{args.output}: {size:.1f} MB; differences from the model: {figures}")
    return 0


def _parser() -> argparse.ArgumentParser:
    summary, examples = (__doc__ or "").split("Examples:")
    parser = argparse.ArgumentParser(
        prog="python -m mask2former.export",
        description=summary,
        epilog=f"Examples:{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", required=True, help="of the model, with MODEL.WEIGHTS")
    parser.add_argument("--output", required=True, type=Path, help="the file to write")
    parser.add_argument("--format", default="onnx", choices=list(FORMATS), help="onnx by default")
    parser.add_argument(
        "--with-postprocess",
        default="",
        choices=["semantic", "panoptic", "instance"],
        help="merge queries in the graph: thresholds are fixed then",
    )
    parser.add_argument(
        "--input-type", default="float32", choices=list(INPUT_TYPES), help="of the images"
    )
    parser.add_argument("--int8", action="store_true", help="8-bit weights of linear layers (onnx)")
    parser.add_argument(
        "--attention",
        default="",
        choices=ATTENTION,
        help="how deformable attention is computed; by default what is fastest in the format",
    )
    parser.add_argument(
        "--check", nargs="+", default=[], metavar="PHOTO", help="compare with the model on these"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs")
    return parser
