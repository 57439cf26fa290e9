"""A fixed choice of damaged files through the command; benchmarks/fuzz.py takes more, and says what a fault is."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(sys.platform != "linux", reason="the runs are forked and watched through /proc")
def test_a_hundred_damaged_files(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "benchmarks.fuzz", "--media", "70", "--checkpoints", "30", "--seed", "1"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert "FAULT" not in done.stdout and done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^(\w+): (\d+) files .* exit codes (.*); longest .* 0 faults$", done.stdout, re.MULTILINE)
    assert [row[:2] for row in rows] == [("checkpoints", "30"), ("media", "70")]
    # Mutations that nothing notices, or that nothing survives, would test nothing.
    for _, _, codes in rows:
        counts = {int(code): int(count) for code, count in re.findall(r"(\d+): (\d+)", codes)}
        assert 0 < counts[0] < sum(counts.values())


@pytest.mark.skipif(sys.platform != "linux", reason="benchmarks.forked is for Linux")
def test_mutations_are_repeatable_and_change_something() -> None:
    from benchmarks.fuzz import boxes, mutate

    content = b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x18moov" + b"\0\0\0\x10trak12345678" + bytes(range(200))
    assert boxes(content) == [(0, 16), (16, 24), (24, 16)]
    mutants = [mutate(content, [content], random.Random(seed)) for seed in range(200)]
    assert mutants == [mutate(content, [content], random.Random(seed)) for seed in range(200)]
    assert sum(mutant != content for mutant in mutants) > 150
