"""The places in the code that docs/cuda.md names are still there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ANCHOR = re.compile(r"`(?P<path>[\w/]+\.py):(?P<line>\d+)` \(`(?P<text>[^`]+)`\)")
ANCHORS = [match.groups() for match in ANCHOR.finditer((ROOT / "docs" / "cuda.md").read_text(encoding="utf-8"))]


def test_there_are_anchors() -> None:
    assert len(ANCHORS) > 20


@pytest.mark.parametrize(("path", "line", "text"), ANCHORS)
def test_the_line_says_so(path: str, line: str, text: str) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    found = [number for number, content in enumerate(lines, 1) if text in content]
    assert int(line) in found, f"{path}: {text!r} is in lines {found}, docs/cuda.md says {line}"
