#!/usr/bin/env python3
"""Tell what a model costs: parameters, multiply-adds, activations, and its structure.

    python tools/analyze_model.py --tasks flop parameter --input-size 800 1216 --config-file CONFIG
    python tools/analyze_model.py --tasks flop activation -n 10 --config-file CONFIG

Sizes are those of the test images (the second form, which reads -n of them) or given. Weights are
not needed: they play no part, but for panoptic output, which leaves out what a model is unsure of.
"""

import argparse
import itertools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from tqdm import tqdm

from mask2former.config import load_config
from mask2former.config.architecture import meta_architecture
from mask2former.data import register_custom
from mask2former.data.datasets.common import require_registered
from mask2former.data.loaders import build_test_loader
from mask2former.engine import Checkpointer, build_model
from mask2former.engine.analysis import Costs, costs_table, count_costs, count_parameters
from mask2former.errors import one_line

TASKS = ("flop", "activation", "parameter", "structure")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, required=True)
    parser.add_argument("-n", "--num-inputs", type=int, default=100, help="test images to run")
    parser.add_argument(
        "--use-fixed-input-size", action="store_true", help="a square of INPUT.CROP.SIZE[0]"
    )
    parser.add_argument("--input-size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--depth", type=int, default=2, help="levels of modules to list")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE ... of the config")
    args = parser.parse_args(argv)
    if args.num_inputs < 1 or min(args.input_size or [1]) < 1:
        parser.error("--num-inputs and --input-size are 1 or more")
    return args


def inputs(cfg: CfgNode, args: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    """Yield batches of one image, or of one clip of two frames for a model of video."""
    size = args.input_size
    if args.use_fixed_input_size:
        size = [int(cfg.INPUT.CROP.SIZE[0])] * 2
    if not size:
        require_registered(cfg.DATASETS.TEST[0])
        yield from itertools.islice(build_test_loader(cfg, cfg.DATASETS.TEST[0]), args.num_inputs)
        return
    image = torch.zeros(3, *size, dtype=torch.uint8)
    is_video = meta_architecture(cfg) == "VideoMaskFormer"
    frames = [image] * cfg.INPUT.SAMPLING_FRAME_NUM
    yield [{"image": frames if is_video else image, "height": size[0], "width": size[1]}]


def print_costs(title: str, unit: float, found: list[Costs], depth: int) -> None:
    """Print a table of the first input, and the mean and spread over all."""
    print(f"\n{title}, first input:\n{costs_table(found[0], depth, unit)}")
    totals = [costs[""] / unit for costs in found]
    spread = statistics.pstdev(totals)
    print(f"{title}, {len(totals)} input(s): {statistics.mean(totals):,.3f} +- {spread:,.3f}")


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    with one_line("analyze_model.py"):
        cfg = load_config(args.config_file, args.opts)
        register_custom(cfg, [] if args.input_size or args.use_fixed_input_size else None)
        model = build_model(cfg).eval()
        if "structure" in args.tasks:
            print(model)
        if "parameter" in args.tasks:
            table = costs_table(count_parameters(model), args.depth)
            print(f"\nMillions of parameters:\n{table}")
        wanted = [task for task in ("flop", "activation") if task in args.tasks]
        if not wanted:
            return
        if cfg.MODEL.WEIGHTS and not args.input_size and not args.use_fixed_input_size:
            Checkpointer(model, min_match=cfg.MODEL.WEIGHTS_MIN_MATCH).load(cfg.MODEL.WEIGHTS)
        runs = [count_costs(model, lambda x=x: model(x)) for x in tqdm(inputs(cfg, args))]
    if "flop" in wanted:
        print_costs("G multiply-adds", 1e9, [macs for macs, _ in runs], args.depth)
    if "activation" in wanted:
        print_costs("M activations", 1e6, [activations for _, activations in runs], args.depth)


if __name__ == "__main__":
    main()
