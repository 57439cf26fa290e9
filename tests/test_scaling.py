"""``rcan-video-bench --ray``: what it makes of the times of whole processes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from clips import make_clip

from rcan_video.commands import scaling
from rcan_video.errors import RcanVideoError


def test_rates_are_those_of_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One second of start-up here and four there; a frame takes 0.1 s here, and 0.06 s on two workers."""
    clip = make_clip(tmp_path / "in.mp4", size=(32, 24), frames=3)
    clock = [0.0]

    def run(line: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        frames = round(float(line[line.index("--duration") + 1]) * 25)
        cluster = "--ray" in line
        assert ("local" in line) == cluster and line[line.index("--threads") + 1] == "1"
        clock[0] += 4 + 0.06 * frames if cluster else 1 + 0.1 * frames
        said = '(raylet) a line of Ray\'s\n{"event": "start", "text": "fast x2, Ray, 2 workers of 1 CPU on 1 node"}\n'
        return subprocess.CompletedProcess(line, 0, "", said if cluster else '{"event": "start", "text": "torch"}\n')

    monkeypatch.setattr(scaling.subprocess, "run", run)
    monkeypatch.setattr(scaling.time, "perf_counter", lambda: clock[0])
    found = scaling.measure_scaling("local", str(clip), 2, "fast", 100, 3, None, "ultrafast")
    assert found.workers == 2 and found.runs == 3
    assert found.here == pytest.approx(100 / 11) and found.cluster == pytest.approx(100 / 10)
    assert found.here_steady == pytest.approx(10) and found.cluster_steady == pytest.approx(1 / 0.06)
    assert found.efficiency == pytest.approx(0.1 / 0.06 / 2)
    assert "| 2 workers | 10.00 | 16.67 |" in scaling.scaling_table(found)
    assert scaling.scaling_table(found).endswith("83% of 2 times the rate here")


def test_what_the_command_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 24), frames=3)
    said = '{"event": "error", "text": "there is no Ray cluster at x:1", "exit_code": 6}\n'
    failed = subprocess.CompletedProcess([], 6, "", said)
    monkeypatch.setattr(scaling.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RcanVideoError, match=r"^the measured command failed: there is no Ray cluster at x:1$"):
        scaling.measure_scaling("x:1", str(clip), 2, "fast", 10, 1, None, "ultrafast")
