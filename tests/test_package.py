"""The package as users get it: what its wheel holds, and what it says without detectron2."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_without_detectron2_the_import_says_how_to_get_it():
    code = "import sys; sys.modules['detectron2'] = None; import mask2former"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = found.stderr.strip().splitlines()[-1]
    assert found.returncode == 1
    assert last.startswith("ImportError: mask2former needs detectron2: run `python tools/install_")


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory) -> set[str]:
    """The paths inside a wheel that is built from a copy of this checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, source)
    for name in ("configs", "mask2former"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    options = ["--no-build-isolation", "--no-index", "--wheel-dir", str(source / "out")]
    subprocess.run([*command, *options, str(source)], check=True)
    (wheel,) = (source / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def paths_below(folder: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob(pattern)}


def test_wheel_holds_every_module_config_and_table(wheel_names):
    package = {f"mask2former/{path}" for path in paths_below(ROOT / "mask2former", "*.py")}
    tables = {f"mask2former/{path}" for path in paths_below(ROOT / "mask2former", "*.json")}
    configs = {f"mask2former/_configs/{path}" for path in paths_below(ROOT / "configs", "*.yaml")}
    assert configs and tables
    assert (package | tables | configs) - wheel_names == set()


def test_wheel_holds_nothing_else(wheel_names):
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mask2former"}
