"""``rcan-video-bench --ray``: the command on a cluster beside the command here, whole processes in turns."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from rcan_video.errors import RcanVideoError

_WORKERS = re.compile(r"Ray, (\d+) workers")


@dataclass(frozen=True, slots=True)
class Scaling:
    """``here`` (one process with the threads of one worker) and ``cluster`` in frames/s, start-up included; the same
    after the first frame, as the difference to a run of one; medians of the runs. ``efficiency`` is what the cluster
    makes of ``workers`` times the rate here, after the first frame."""

    clip: str
    frames: int
    model: str
    scale: int
    runs: int
    workers: int
    here: float
    cluster: float
    here_steady: float
    cluster_steady: float
    efficiency: float


def measure_scaling(
    address: str, clip: str, scale: int, model: str, frames: int, runs: int, threads: int | None, preset: str
) -> Scaling:
    """Run the command on the cluster at ``address`` and here, ``runs`` times in turns; raises RcanVideoError."""
    from rcan_video.media.decode import probe

    rate = probe(clip).rate
    line = [sys.executable, "-m", "rcan_video", clip, "--scale", str(scale), "--model", model, "--preset", preset]
    line += ["--progress", "json", "--overwrite", "--restart", "--device", "cpu", "--threads", str(threads or 1)]
    workers, taken = 0, []
    with tempfile.TemporaryDirectory(prefix="rcan-video-bench-") as folder:
        output = str(Path(folder, "out.mp4"))

        def seconds(count: int, *more: str) -> float:
            nonlocal workers
            whole = [*line, output, "--duration", str(float(Fraction(count) / rate)), *more]
            begun = time.perf_counter()
            done = subprocess.run(whole, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            ended = time.perf_counter() - begun
            events = _events(done.stderr)
            if done.returncode:
                said = [event["text"] for event in events if event["event"] == "error"] or [done.stderr.strip()]
                raise RcanVideoError(f"the measured command failed: {said[-1]}")
            for event in events:
                if found := _WORKERS.search(str(event.get("text", ""))):
                    workers = int(found[1])
            return ended

        seconds(1)  # what is compiled once is no part of this
        for _ in range(runs):
            taken.append([seconds(count, *more) for more in ((), ("--ray", address)) for count in (1, frames)])
    here_one, here, there_one, there = (statistics.median(times) for times in zip(*taken, strict=True))
    here_steady, steady = (frames - 1) / (here - here_one), (frames - 1) / (there - there_one)
    return Scaling(
        clip=Path(clip).name,
        frames=frames,
        model=model,
        scale=scale,
        runs=runs,
        workers=workers,
        here=frames / here,
        cluster=frames / there,
        here_steady=here_steady,
        cluster_steady=steady,
        efficiency=steady / (here_steady * max(1, workers)),
    )


def scaling_table(found: Scaling) -> str:
    """The figures for people; pastes into Markdown."""
    head = f"{found.clip}, {found.frames} frames, {found.model} x{found.scale}, median of {found.runs} runs"
    return "\n".join(
        (
            head,
            "",
            "| | frames/s | after the first frame |",
            "|---|---|---|",
            f"| here, the threads of one worker | {found.here:.2f} | {found.here_steady:.2f} |",
            f"| {found.workers} workers | {found.cluster:.2f} | {found.cluster_steady:.2f} |",
            "",
            f"{found.efficiency:.0%} of {found.workers} times the rate here",
        )
    )


def _events(text: str) -> Sequence[dict[str, object]]:
    """The lines of --progress json; others are Ray's."""
    events = []
    for line in text.splitlines():
        if line.startswith("{"):
            events.append(json.loads(line))
    return events
