"""Importing the package: what it loads, and that it registers, in whichever order."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

LIGHT = [
    "import mask2former",
    "import mask2former.runtime",
    "from mask2former import runtime",
    "import importlib; importlib.import_module('mask2former.runtime')",
    "import mask2former.runtime.command",
    "import mask2former.formats.rle, mask2former.results.files, mask2former.painting",
    "import mask2former; assert not hasattr(mask2former, 'nothing'); dir(mask2former)",
]

BY_NAME = """
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.data import DatasetCatalog
assert "VideoMaskFormer" in META_ARCH_REGISTRY
assert "ade20k_panoptic_val" in DatasetCatalog.list()
"""


def run(code: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_what_needs_neither_loads_neither():
    for code in LIGHT:
        run(f"{code}\nimport sys\nassert not {{'torch', 'detectron2'}} & set(sys.modules)")


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import mask2former", marks=pytest.mark.slow),
        pytest.param("import mask2former.runtime, mask2former", marks=pytest.mark.slow),
        pytest.param("import mask2former.layers", marks=pytest.mark.slow),
        "import detectron2, mask2former",
    ],
)
def test_it_registers_in_any_order(code):
    run(f"{code}\n{BY_NAME}")


def test_parts_and_names_can_be_had_afterwards():
    run(
        "import mask2former.runtime, mask2former\n"
        "assert mask2former.modeling.MaskFormer is mask2former.MaskFormer\n"
        "import detectron2, importlib, inspect\n"
        "assert type(detectron2.__spec__.loader).__name__ == 'SourceFileLoader'\n"
        "assert inspect.getsource(detectron2) and inspect.getsource(mask2former.runtime)\n"
        "importlib.reload(mask2former)\n" + BY_NAME
    )


def test_a_failed_import_can_be_tried_again():
    run(
        "import sys, mask2former\n"
        "sys.modules['detectron2'] = None\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        mask2former.MaskFormer\n"
        "        raise SystemExit('no error')\n"
        "    except ImportError as error:\n"
        "        assert str(error).startswith('mask2former needs detectron2')\n"
        "del sys.modules['detectron2']\n" + BY_NAME
    )


def test_modules_can_be_run():
    command = [sys.executable, "-m", "mask2former.runtime", "--help"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0 and "usage: python -m mask2former.runtime" in found.stdout
