"""Names of ours in the registries, and parts of other projects under the same names."""

import subprocess
import sys
from pathlib import Path

import pytest

from mask2former.modeling.registries import YieldingRegistry

ROOT = Path(__file__).resolve().parents[2]


def part(module: str) -> type:
    return type("Part", (), {"__module__": module})


@pytest.fixture
def registry():
    return YieldingRegistry("TEST")


@pytest.mark.parametrize("ours_first", [True, False])
def test_the_other_project_has_the_name(registry, ours_first, caplog):
    ours, theirs = part("mask2former.modeling.part"), part("videosegmenter.part")
    for each in (ours, theirs) if ours_first else (theirs, ours):
        registry.register(each)
    assert registry.get("Part") is theirs
    assert "Part is videosegmenter.part of another project, in place of ours" in caplog.text


@pytest.mark.parametrize("package", ["mask2former", "mask2former_video"])
def test_two_of_one_package_are_refused(registry, package):
    registry.register(part(f"{package}.one"))
    with pytest.raises(AssertionError, match="'Part' was already registered in 'TEST'"):
        registry.register(part(f"{package}.two"))


def test_two_of_other_projects_are_refused(registry):
    registry.register(part("one.part"))
    with pytest.raises(AssertionError, match="already registered"):
        registry.register(part("two.part"))


FORK = """
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY
def register(registry, *names):
    for name in names:
        registry.register(type(name, (), {}))
def theirs():
    register(META_ARCH_REGISTRY, "MaskFormer", "VideoMaskFormer")
    register(SEM_SEG_HEADS_REGISTRY, "MSDeformAttnPixelDecoder", "MaskFormerHead")
    register(BACKBONE_REGISTRY, "D2SwinTransformer")
if theirs_first:
    theirs()
from mask2former.modeling.transformer_decoder.maskformer_transformer_decoder import (
    TRANSFORMER_DECODER_REGISTRY,
)
if not theirs_first:
    theirs()
register(TRANSFORMER_DECODER_REGISTRY, "VideoMultiScaleMaskedTransformerDecoder")
print(META_ARCH_REGISTRY.get("VideoMaskFormer").__module__,
      SEM_SEG_HEADS_REGISTRY.get("MaskFormerHead").__module__,
      BACKBONE_REGISTRY.get("D2SwinTransformer").__module__,
      TRANSFORMER_DECODER_REGISTRY.get("MultiScaleMaskedTransformerDecoder").__module__)
"""


@pytest.mark.parametrize("theirs_first", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_changed_copies_beside_the_package(theirs_first):
    """As in a fork that keeps the parts that it has changed."""
    command = [sys.executable, "-c", f"theirs_first = {theirs_first}{FORK}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ours = "mask2former.modeling.transformer_decoder.masked"
    assert found.stdout.split() == ["__main__"] * 3 + [ours]
