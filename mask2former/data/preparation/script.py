"""The command line that the preparation scripts share."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def run(
    description: str, prepare: Callable[..., None], splits: Sequence[str] = ("train", "val")
) -> None:
    """Read the arguments of a script and call ``prepare(root, split, workers=, overwrite=)``.

    Args:
        description: what the script says about itself; its docstring.
        splits: those there are; all are prepared unless --splits chooses.
    """
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=formatter)
    parser.add_argument("--root", type=Path, default=default_root(), help="folder of the datasets")
    parser.add_argument("--splits", nargs="+", choices=splits, default=splits)
    add_common_arguments(parser)
    arguments = parser.parse_args()
    for split in arguments.splits:
        options = {"workers": arguments.workers, "overwrite": arguments.overwrite}
        call(prepare, {"root": arguments.root, "split": split, **options})


def default_root() -> str:
    """Return the folder in which detectron2 looks for datasets."""
    return os.environ.get("DETECTRON2_DATASETS", "datasets")


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --workers and --overwrite."""
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--overwrite", action="store_true", help="make again what exists")


def call(prepare: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call ``prepare`` and end the script with one line where the user has to do something."""
    try:
        return prepare(**arguments)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("\ninterrupted; the same command goes on from here") from None
