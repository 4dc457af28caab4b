"""The pages under docs/ and the README: what they link to and name is there."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from mask2former.config import get_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "datasets" / "README.md"],
    key=lambda path: path.relative_to(ROOT).as_posix(),
)


def words(path: Path) -> str:
    """The text without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """The headings as links name them."""
    headings = re.findall(r"^#+ (.+)$", words(path), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def every(pattern: str) -> list:
    """A test case for each different match on a page."""
    found = [(page, match) for page in PAGES for match in re.findall(pattern, words(page))]
    return [pytest.param(*case, id=f"{case[0].stem}-{case[1]}") for case in dict.fromkeys(found)]


@pytest.mark.parametrize(("page", "link"), every(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)"))
def test_link(page: Path, link: str):
    if "://" in link:
        return
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


@pytest.mark.parametrize(("page", "name"), every(r"`(mask2former(?:\.\w+)+)"))
def test_name_in_the_package(page: Path, name: str):
    if not name.endswith((".py", ".json")):
        assert pkgutil.resolve_name(name) is not None


@pytest.fixture(scope="module")
def config() -> CfgNode:
    return get_config()


@pytest.mark.parametrize(("page", "key"), every(r"`((?:[A-Z][A-Z0-9_]+\.)+[A-Z][A-Z0-9_]+)\b"))
def test_config_key(config: CfgNode, page: Path, key: str):
    node = config
    for name in key.split("."):
        assert name in node
        node = node[name]


@pytest.mark.parametrize(("page", "path"), every(r"`((?:tools|datasets|demo|configs)/[\w./-]+)`"))
def test_path(page: Path, path: str):
    if page.name not in ("CHANGELOG.md", "migrating.md"):  # which name what is gone
        assert (ROOT / path).exists()
