#!/usr/bin/env python3
"""Score an exported file as train_net.py --eval-only scores its model: what a format costs.

    python tools/evaluate_exported.py model.onnx --config-file output/config.yaml \\
        --opts KEY VALUE ...

The figures go to OUTPUT_DIR/inference_exported.
"""

import argparse
import logging
from collections.abc import Sequence

from mask2former.config import load_config
from mask2former.engine import Trainer, defaults
from mask2former.errors import one_line
from mask2former.export.evaluated import ExportedModel
from mask2former.runtime import Runtime


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="an ONNX file of python -m mask2former.export, for images")
    parser.add_argument("--config-file", required=True, help="with DATASETS.TEST")
    parser.add_argument("--threads", type=int, default=0, help="default: as many as cores")
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... of the config"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with one_line("evaluate_exported.py"):
        cfg = load_config(args.config_file, args.opts)
        defaults.validate(cfg, eval_only=True)
        runtime = Runtime(args.model, threads=args.threads, semantic_output="labels")
        Trainer.test(cfg, ExportedModel(runtime), suffix="_exported")


if __name__ == "__main__":
    main()
