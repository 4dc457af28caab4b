#!/usr/bin/env python
"""Train or evaluate a model of images or video, as its config says.

    python train_net.py --config-file CONFIG [KEY VALUE ...]
    python train_net.py --config-file CONFIG --num-gpus 8
    python train_net.py --config-file CONFIG --eval-only MODEL.WEIGHTS output/model_final.pth
    torchrun --nproc_per_node 2 train_net.py --config-file CONFIG      (also without a GPU)

The same command with --resume goes on with an interrupted run. --progress bar shows a bar in place
of a line now and then. MASK2FORMER_DEBUG=1 in the environment shows where in the code an error came
up.
"""

import argparse
import logging
import os
import sys
import warnings
from typing import Any, NoReturn

# isort: off
import mask2former  # noqa: F401 (first, since detectron2 warns where it is imported by itself)
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from torch.multiprocessing import ProcessExitedException

# isort: on
from mask2former.config import load_config
from mask2former.data import register_custom
from mask2former.engine import Trainer, defaults, launch
from mask2former.errors import SHOWN, message

warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # used by fvcore
logger = logging.getLogger("mask2former.train_net")

USER_ERRORS = (*SHOWN, FloatingPointError)  # the last where losses are no numbers any more


def setup(args: argparse.Namespace) -> CfgNode:
    """Return the config that ``args`` ask for, frozen; prepare its output folder and the logs.

    Args:
        args: as parsed by detectron2's ``default_argument_parser``.

    Raises:
        OSError, UserError: the config cannot be read or used; says why.
    """
    cfg = load_config(args.config_file, args.opts)
    register_custom(cfg, cfg.DATASETS.TEST if args.eval_only else None)
    cfg.freeze()
    defaults.setup(cfg, args)
    return cfg


def main(args: argparse.Namespace) -> Any:
    """Run in every process; return the results of the evaluation."""
    cfg = setup(args)
    if args.eval_only:
        return Trainer.evaluate(cfg, resume=args.resume)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def run(args: argparse.Namespace) -> Any:
    """Call `main`; ends the process with one clear line for errors that a user can fix."""
    try:
        return main(args)
    except USER_ERRORS as error:
        fail(error)


def fail(error: BaseException) -> NoReturn:
    """End the process with the message of ``error``; log.txt, once there is one, has the rest."""
    if os.environ.get("MASK2FORMER_DEBUG"):
        raise error
    with defaults.only_in_file():
        logger.info("Ended by an error", exc_info=error)
    print(f"train_net.py: error: {message(error)}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    parser = default_argument_parser(__doc__)
    parser.add_argument("--progress", choices=("line", "bar"), help="sets TRAINING.PROGRESS")
    arguments = parser.parse_args()
    if arguments.progress:
        arguments.opts = [*arguments.opts, "TRAINING.PROGRESS", arguments.progress]
    if not arguments.config_file:
        parser.error("--config-file is missing")
    try:
        config = load_config(arguments.config_file, arguments.opts)
        launch(run, arguments, device=config.MODEL.DEVICE)
    except ProcessExitedException as ended:  # a process that the launcher started has told why
        sys.exit(ended.exit_code)
    except KeyboardInterrupt:
        print("train_net.py: interrupted", file=sys.stderr)
        sys.exit(130)
    except USER_ERRORS as problem:
        fail(problem)
