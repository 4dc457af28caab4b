"""What is noted when a run starts: command, environment, commit, and what its config changes."""

import argparse
import datetime
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from ...config.loading import flat_items, get_config, merge_keys
from ...config.yaml_reader import read_chain
from ...evaluation.results import versions
from ...formats.json_files import write_json
from ...threads import available_cpus

RUN_FILE = "run.json"
_PACKAGE = Path(__file__).resolve().parents[3]


def write_run_facts(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Write run.json into OUTPUT_DIR.

    Args:
        args: ``config_file`` is read, where there is one.

    Raises:
        OSError: it cannot be written.
    """
    config_file = getattr(args, "config_file", "") or ""
    base, changes = _compare_with_base(cfg, config_file)
    facts = {
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "config_file": config_file,
        "base": base,
        "changes": changes,
        "commit": _commit(),
        "versions": versions(),
        "machine": {
            "system": platform.platform(),
            "processors": f"{available_cpus()} of {os.cpu_count()}, {_processor()}",
            "gpus": _gpus(),
            "processes": comm.get_world_size(),
        },
    }
    write_json(Path(cfg.OUTPUT_DIR, RUN_FILE), facts, indent=1)


def default_changes(config: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return (key, default, value) of the keys, by dotted name, that have no default value."""
    return _differences(dict(flat_items(get_config())), config)


def _compare_with_base(cfg: CfgNode, config_file: str) -> tuple[str, list[tuple[str, Any, Any]]]:
    """Return the file that a config builds on, and what it changes there; else the defaults."""
    base, name = get_config(), "the defaults"
    chain = read_chain(config_file)[:-1] if config_file else []
    for source, keys in chain:
        merge_keys(base, keys, source)
        name = os.path.relpath(source)
    return name, _differences(dict(flat_items(base)), dict(flat_items(cfg)))


def _differences(base: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [
        (key, base.get(key), value)
        for key, value in config.items()
        if key not in base or base[key] != value
    ]


def _commit() -> str | None:
    """Return the commit of this package's checkout, "+ changes" where files differ from it."""
    if not (_PACKAGE / ".git").exists():
        return None
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(_PACKAGE), *command],
                capture_output=True, text=True, timeout=10, check=True,
            ).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit} + changes" if changed else commit


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _gpus() -> list[str]:
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
