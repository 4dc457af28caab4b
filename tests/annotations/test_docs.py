"""The page on findings: every code of the policy has its paragraph, with the right outcome."""

import re
from pathlib import Path

from mask2former.annotations import POLICY

PAGE = Path(__file__).parents[2] / "docs" / "annotations.md"


def test_every_code_is_explained_with_its_outcome() -> None:
    explained = {}
    for paragraph in PAGE.read_text().split("\n\n"):
        head = re.match(r"((\*\*[a-z-]+\*\*( \([a-z ]+\))?,?\s*)+)\.", paragraph)
        if head:
            outcomes = re.findall(r"\(([a-z ]+)\)", head[1])
            codes = re.findall(r"\*\*([a-z-]+)\*\*", head[1])
            assert len(set(outcomes)) == 1, f"{codes}: one outcome, got {outcomes}"
            explained |= dict.fromkeys(codes, outcomes[0])
    assert explained == {code: rule.outcome for code, rule in POLICY.items()}
