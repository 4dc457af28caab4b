"""Predict many images and videos, and go on where an earlier run was ended.

    python -m mask2former.predict photos 'more/*.jpg' @list.txt shard-000.tar clip.mp4 \\
        --output results --config-file CONFIG --weights model_final.pth
    torchrun --nproc-per-node 4 -m mask2former.predict photos --output results ...
    sbatch --array 0-15 --wrap 'python -m mask2former.predict photos --output results ...'
"""

import argparse
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.logger import setup_logger

from ..errors import GOES_ON, one_line
from ..mosaic.command import add_tile_arguments, check_tile_arguments, tile_options
from ..threads import available_cpus, describe_threads
from ..visualization import KINDS
from .configs import predict_config
from .job.running import Outcome, on_device, place_among_workers, run_job
from .job.settings import OUTPUTS, Settings, choose_outputs

_MAX_CPU_WORKERS = 4  # each holds a model


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the options of the command, and end the program where they do not go together."""
    parser = argparse.ArgumentParser(
        prog="python -m mask2former.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IN",
        help="files, folders with all below them, quoted globs, @lists of them, tar archives in "
        "WebDataset's layout, videos",
    )
    parser.add_argument("--output", required=True, type=Path, help="folder for the results")
    parser.add_argument("--config-file", required=True, help="yaml file of the model")
    parser.add_argument("--weights", help="a checkpoint (default: MODEL.WEIGHTS of the config)")
    parser.add_argument(
        "--save",
        nargs="+",
        choices=OUTPUTS,
        default=[],
        metavar="OUTPUT",
        help=f"of {', '.join(OUTPUTS)} (default: what the model gives, without the last two)",
    )
    parser.add_argument(
        "--confidence-threshold",
        type=float,
        help="0 to 1: least score of instances (default 0.5), least class probability of panoptic "
        "segments (default: the config's), least fraction of a pixel's best class (default 0)",
    )
    parser.add_argument("--draw", choices=KINDS, help="what drawings show; the richest by default")
    parser.add_argument("--batch", type=int, default=8, help="images together (default 8)")
    parser.add_argument("--shard-size", type=int, default=64, help="images a shard (default 64)")
    parser.add_argument("--window", type=int, help="frames that a model for video sees together")
    parser.add_argument("--max-pixels", type=int, help="the largest photo that is read")
    add_behaviour(parser)
    add_processes(parser)
    add_tile_arguments(parser)
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ... of the config, last"
    )
    args = parser.parse_args(argv)
    check(parser, args)
    return args


def add_behaviour(parser: argparse.ArgumentParser) -> None:
    """Add what to do in special cases."""
    parser.add_argument(
        "--overwrite", action="store_true", help="delete the results of an earlier job and start"
    )
    parser.add_argument(
        "--stop-on-error", action="store_true", help="end at the first input that is unreadable"
    )
    parser.add_argument(
        "--skip-damaged", action="store_true", help="leave out unreadable frames of videos"
    )


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Add how many processes there are."""
    group = parser.add_argument_group("processes")
    group.add_argument(
        "--workers",
        type=int,
        help="processes with a model each (default: one for each GPU; without one, one for each "
        f"core, up to {_MAX_CPU_WORKERS}; under torchrun and SLURM 1)",
    )
    group.add_argument("--readers", type=int, help="processes of each worker that read ahead")
    group.add_argument("--encoders", type=int, help="processes of each worker that write masks")
    group.add_argument(
        "--lease-seconds",
        type=float,
        default=60,
        help="after which a silent worker on another machine counts as dead (default 60)",
    )


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the program where an option has a value that it cannot have."""
    check_tile_arguments(parser, args)
    for name, low in (("batch", 1), ("shard_size", 1), ("max_pixels", 1), ("workers", 1)):
        value = getattr(args, name)
        if value is not None and value < low:
            parser.error(f"--{name.replace('_', '-')} is {low} or more, got {value}")
    for name in ("readers", "encoders", "window"):
        if (getattr(args, name) or 0) < 0:
            parser.error(f"--{name} is 0 or more, got {getattr(args, name)}")
    if args.lease_seconds < 1:
        parser.error(f"--lease-seconds is 1 or more, got {args.lease_seconds}")
    wanted = args.confidence_threshold
    if wanted is not None and not 0 <= wanted <= 1:
        parser.error(f"--confidence-threshold is in 0 to 1, got {wanted}")
    if args.overwrite and place_among_workers() is not None:
        parser.error(
            "--overwrite would let each worker delete what the others have done: delete the folder "
            "before they start"
        )


def processes(args: argparse.Namespace, device: str, alone: bool) -> dict[str, int]:
    """Return numbers of workers, of readers and encoders of each, and of threads of each."""
    cores = available_cpus()
    on_gpu = torch.device(device).type == "cuda"
    workers = args.workers
    if workers is None:
        many = max(torch.cuda.device_count(), 1) if on_gpu else min(cores, _MAX_CPU_WORKERS)
        workers = many if alone else 1
    share = max(cores // workers, 1)
    # On CPUs a model for each core keeps them busy; helpers would take turns with it.
    helpers = min(4, max(share // 2, 1)) if on_gpu else int(share > 1)
    set_threads = not on_gpu and workers > 1 and "OMP_NUM_THREADS" not in os.environ
    return {
        "workers": workers,
        "readers": helpers if args.readers is None else args.readers,
        "encoders": helpers if args.encoders is None else args.encoders,
        "threads": share if set_threads else 0,
    }


def settings_of(args: argparse.Namespace, cfg: CfgNode, counts: dict[str, int]) -> Settings:
    """Return the settings that the arguments ask for."""
    wanted = args.confidence_threshold
    return Settings(
        cfg,
        args.output,
        choose_outputs(cfg, args.save, args.draw),
        score_threshold=0.5 if wanted is None else wanted,
        label_threshold=wanted or 0.0,
        kind=args.draw,
        batch=args.batch,
        shard_size=args.shard_size,
        window=args.window,
        skip_damaged=args.skip_damaged,
        stop_on_error=args.stop_on_error,
        lease_seconds=args.lease_seconds,
        **tile_options(args),
        **counts,
    )


def job_settings(args: argparse.Namespace, alone: bool) -> tuple[Settings, int]:
    """Return the settings that the arguments ask for, and the number of workers.

    Args:
        alone: no other program works on the job.

    Raises:
        UserError, OSError: the config or what is asked for cannot be used.
    """
    weights: list[Any] = [] if args.weights is None else ["MODEL.WEIGHTS", args.weights]
    cfg = predict_config(
        args.config_file,
        [*args.opts, *weights],
        confidence=args.confidence_threshold,
        max_pixels=args.max_pixels,
    )
    counts = processes(args, cfg.MODEL.DEVICE, alone)
    workers = counts.pop("workers")
    return settings_of(args, cfg, counts), workers


def run(args: argparse.Namespace) -> Outcome:
    """Run the job.

    Raises:
        UserError, OSError: as `run_job`.
    """
    among = place_among_workers()
    settings, workers = job_settings(args, among is None)
    rank, world = among or (0, 1)
    if among is not None:
        settings = on_device(settings, int(os.environ.get("LOCAL_RANK", 0)))
    more = {"workers": workers, "place": rank / world, "progress": rank == 0}
    return run_job(settings, args.inputs, overwrite=args.overwrite, **more)


def main(
    argv: Sequence[str] | None = None,
    run: Callable[[argparse.Namespace], Outcome] = run,
) -> int:
    """Run the program; return 0, 1 where inputs were left out, 2 after an error, or 130."""
    args = parse_args(argv)
    logger = setup_logger(name="mask2former", abbrev_name="m2f")
    logger.info("%s", describe_threads())
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with one_line("predict", status=2, interrupted=GOES_ON):
            outcome = run(args)
    finally:
        signal.signal(signal.SIGTERM, previous)
    for path in outcome.files:
        print(path)
    done = outcome.items - outcome.errors
    more = f"; the others are in {args.output / 'errors.jsonl'}" if outcome.errors else ""
    print(f"{done} of {outcome.items} inputs predicted{more}")
    return 1 if outcome.errors else 0
