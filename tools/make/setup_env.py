#!/usr/bin/env python3
"""Make the virtual environment with everything in its pinned version; ``make setup`` calls this.

The order matters: what builds and what torch imports, then the torch pair alone, then everything
else under a constraint that keeps that pair, then detectron2 and the project itself. A stamp file
holds a digest of all that this depends on, and what was installed, so that a second run returns at
once, or installs again what was changed by hand since.

This file runs under the system's Python, before anything is installed: standard library only.
"""

from __future__ import annotations  # an older Python is to reach check_python

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PYTHON_VERSIONS = ((3, 11), (3, 13))  # from, to
STAMP = ".setup-stamp"
TORCH_CONSTRAINTS = "torch-constraints.txt"
TORCH_CHOICE = ".torch-choice.json"
# Files whose change calls for another run.
INPUTS = (
    "requirements/*.txt",
    "tools/make/setup_env.py",
    "tools/install_detectron2.py",
    "tools/detectron2_patches.py",
    "setup.py",
)


class SetupError(RuntimeError):
    """Set-up cannot go on; the message says what to do."""


def check_python(version: tuple[int, int]) -> None:
    """Raise SetupError unless this is a Python that every pinned package has a wheel for."""
    first, last = PYTHON_VERSIONS
    if not first <= version <= last:
        names = ["{}.{}".format(*numbers) for numbers in (first, last, version)]
        raise SetupError(
            f"Python {names[0]} to {names[1]} is needed and {sys.executable} is {names[2]}: name "
            "another one, for example make setup PYTHON=python3.12"
        )


def choose_torch(venv: Path, torch: str, index_url: str) -> dict[str, str]:
    """Return {"torch": requirements, "index_url": URL}; "" stands for the default.

    What is not given now is what was chosen for this environment before.
    """
    memory = venv / TORCH_CHOICE
    before = json.loads(memory.read_text()) if memory.is_file() else {}
    given = {"torch": torch, "index_url": index_url}
    return {key: value or before.get(key, "") for key, value in given.items()}


def digest(venv: Path, choice: dict[str, str]) -> str:
    """Return a digest of everything that the finished environment depends on."""
    key = (str(venv), sys.version_info[:2], sorted(choice.items()))
    found = hashlib.sha256(repr(key).encode())
    for pattern in INPUTS:
        for path in sorted(ROOT.glob(pattern)):
            found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def read_stamp(stamp: Path) -> dict[str, Any]:
    """Return what an earlier run left: digest and installed versions; {} where there is none."""
    try:
        made = json.loads(stamp.read_text())
        return made if isinstance(made["installed"], dict) else {}
    except (OSError, ValueError, KeyError, TypeError):  # none, or that of an older version
        return {}


def run(title: str, *command: str) -> None:
    """Run one step and print its title and time; raise SetupError if it fails."""
    print(f"  {title} ...", flush=True)
    start = time.monotonic()
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise SetupError(
            f"this step failed, see its messages above; fix the cause and run make setup again "
            f"(what is done is kept): {' '.join(command)}"
        )
    print(f"  {title}: {time.monotonic() - start:.0f} s", flush=True)


def venv_version(python: Path) -> tuple[int, int] | None:
    """Return the (major, minor) version of the environment's Python, None if it has no pip."""
    code = "import pip, sys; print(*sys.version_info[:2])"
    if not python.exists():
        return None
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    if found.returncode:
        return None
    major, minor = found.stdout.split()
    return int(major), int(minor)


def make_venv(venv: Path) -> Path:
    """Make the environment, or keep one made with the same Python; return its interpreter."""
    python = venv / "bin" / "python"
    found = venv_version(python)
    if found == sys.version_info[:2]:
        return python
    options = []
    if found is not None:
        print(f"  {venv} has Python {found[0]}.{found[1]}: it is made anew", flush=True)
        options = ["--clear"]
    try:
        run("virtual environment", sys.executable, "-m", "venv", *options, str(venv))
    except SetupError as error:
        raise SetupError(f"{error} (on Debian and Ubuntu: apt install python3-venv)") from None
    return python


def write_torch_constraints(python: Path, target: Path) -> None:
    """Write the installed versions of torch and torchvision, so that no later step moves them."""
    code = (
        "import importlib.metadata as m\n"
        "for name in ('torch', 'torchvision'): print(f'{name}=={m.version(name)}')"
    )
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    if found.returncode:
        raise SetupError(f"torch or torchvision is not installed: {found.stderr.strip()}")
    target.write_text(found.stdout)


def install_torch(python: Path, venv: Path, pip: list[str], choice: dict[str, str]) -> None:
    """Install torch and torchvision and note their versions for the later steps."""
    memory = venv / TORCH_CHOICE
    if memory.is_file() and json.loads(memory.read_text()) != choice:
        # pip takes 2.14.1+cpu for 2.14.1 and would keep the installed build.
        remove = [str(python), "-m", "pip", "uninstall", "--quiet", "--yes"]
        run("removal of the former torch", *remove, "torch", "torchvision")
    memory.write_text(json.dumps(choice))
    index = ["--index-url", choice["index_url"]] if choice["index_url"] else []
    pair = choice["torch"].split() or ["-r", "requirements/torch.txt"]
    run("torch and torchvision", *pip, *index, *pair)
    write_torch_constraints(python, venv / TORCH_CONSTRAINTS)


def pip_install(python: Path) -> list[str]:
    """Return the beginning of every command that installs packages."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Compiling every module beforehand takes two thirds of the time; Python compiles those that
    # are used when they are first imported. Without build isolation the few packages that come as
    # plain Python sources are built with our setuptools, not with one downloaded for each of them.
    return [*pip, "--no-compile", "--no-build-isolation"]


def install(python: Path, venv: Path, choice: dict[str, str]) -> None:
    """Install everything, in the order that the module docstring gives."""
    pip = pip_install(python)
    run("build tools", *pip, "-r", "requirements/base.txt")
    install_torch(python, venv, pip, choice)
    others = [f"requirements/{name}.txt" for name in ("detectron2", "project", "test")]
    listed = [word for path in others for word in ("-r", path)]
    run("other packages", *pip, "-c", str(venv / TORCH_CONSTRAINTS), *listed)
    run("scorers", *pip, "--no-deps", "-r", "requirements/test_no_deps.txt")
    for name, command in own_packages(python).items():
        run(name, *command)


def own_packages(python: Path) -> dict[str, list[str]]:
    """Return the commands that install what comes from no package index."""
    return {
        "detectron2": [str(python), "tools/install_detectron2.py"],
        "mask2former": [*pip_install(python), "--no-deps", "--editable", "."],
    }


def installed(venv: Path) -> dict[str, str]:
    """Return the versions of the packages in an environment, "" for one that lacks its files or is
    there twice.

    The names of folders tell them, in a hundredth of the time that pip would take.
    """
    found = {}
    for folder in venv.glob("lib/python*/site-packages/*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").partition("-")
        name = normal_name(name)
        found[name] = version if name not in found and _has_files(folder) else ""
    return found


def _has_files(folder: Path) -> bool:
    """Return whether the first of the package's files is there."""
    record = folder / "RECORD"
    with record.open(encoding="utf-8") if record.is_file() else open(os.devnull) as lines:
        paths = (line.partition(",")[0] for line in lines)
        own = (path for path in paths if not path.startswith("..") and ".dist-info/" not in path)
        return (folder.parent / next(own, ".")).exists()


def normal_name(name: str) -> str:
    """Return the name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    """Return the versions in the constraints."""
    path = ROOT / "requirements" / "constraints.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.split("#")[0].strip().partition("==") for line in lines)
    return {normal_name(name): version for name, _, version in pairs if version}


def changed_by_hand(venv: Path, before: dict[str, str]) -> dict[str, str]:
    """Return the versions to be restored of packages that set-up had installed."""
    wanted = before | {name: v for name, v in pinned().items() if name in before}
    now = installed(venv)
    return {name: version for name, version in wanted.items() if now.get(name) != version}


def restore(python: Path, wanted: dict[str, str], index_url: str) -> None:
    """Install packages again in these versions; what they need is there."""
    again = [*pip_install(python), "--no-deps", "--force-reinstall"]
    pins, own = pinned(), own_packages(python)
    index = ["--index-url", index_url] if index_url else []
    for title, options, chosen in (
        ("packages", [], [name for name in wanted if name in pins]),
        ("torch and what it needs", index, sorted(wanted.keys() - pins.keys() - own.keys())),
    ):
        if chosen:
            run(title, *again, *options, *(f"{name}=={wanted[name]}" for name in chosen))
    for name in wanted.keys() & own.keys():
        run(name, *own[name])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="folder to make")
    parser.add_argument("--torch", default="", help="other requirements of torch, torchvision")
    parser.add_argument("--index-url", default="", help="another package index for these two")
    options = parser.parse_args(arguments)
    venv = Path(os.path.abspath(options.venv))
    stamp = venv / STAMP
    try:
        check_python(sys.version_info[:2])
        choice = choose_torch(venv, options.torch, options.index_url)
        expected = digest(venv, choice)
        made = read_stamp(stamp)
        is_current = made.get("digest") == expected
        wanted = changed_by_hand(venv, made["installed"]) if is_current else {}
        if is_current and not wanted:
            return 0
        stamp.unlink(missing_ok=True)
        start = time.monotonic()
        if wanted:
            print(f"Changed by hand in {venv}, installed again: {', '.join(sorted(wanted))}")
            restore(make_venv(venv), wanted, choice["index_url"])
        else:
            print(f"Setting up {venv} with Python {sys.version_info[0]}.{sys.version_info[1]}")
            install(make_venv(venv), venv, choice)
        stamp.write_text(json.dumps({"digest": expected, "installed": installed(venv)}))
        print(f"Set-up took {time.monotonic() - start:.0f} s")
    except (SetupError, OSError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
