"""The sentences in docs/troubleshooting.md are those that the program says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SENTENCES = re.findall(r"^### `(.+)`$", TEXT, re.MULTILINE)
GAP = "…"


@cache
def said() -> tuple[str, ...]:
    """Every string of the program, a gap for each value that is put in."""
    found = []
    for path in (ROOT / "rcan_video").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else GAP for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def is_said(sentence: str) -> bool:
    """Whether all that is fixed in ``sentence`` stands in one string of the program, in this order."""
    parts = [part.strip() for part in sentence.split(GAP) if part.strip()]
    assert max(map(len, parts)) >= 9, f"hardly anything is fixed in {sentence!r}"
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    return any(pattern.search(text) for text in said())


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_program_says_it(sentence: str) -> None:
    assert is_said(sentence)


def test_there_are_sentences_for_every_exit_code() -> None:
    assert len(SENTENCES) > 25
    assert len(set(SENTENCES)) == len(SENTENCES)
    codes = set(re.findall(r"^## .*exit code (\d+)", TEXT, re.MULTILINE))
    assert codes == {"1", "2", "3", "4", "5", "6", "7", "130"}


def test_what_nobody_says_is_found() -> None:
    assert not is_said("… exists already: name a better output")
    assert not is_said("pass --overwrite … exists already: name another")
