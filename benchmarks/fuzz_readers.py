"""Atheris, which learns from the branches that bytes take, at the readers of what strangers may have written.

    python -m benchmarks.fuzz_readers checkpoint -max_total_time=300 -rss_limit_mb=2048 -timeout=20
    python -m benchmarks.fuzz_readers records -max_total_time=300 -rss_limit_mb=2048 -timeout=20

``checkpoint``: ``checkpoint.from_bytes``. ``records``: plan.json and done.json of a job's folder, with a byte 0 between
them. Anything but the error that is promised ends it, with the input in a file of its own. Atheris is no dependency:
``pip install atheris`` beside this package first. What follows the first word goes to libFuzzer.
"""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["rcan_video"]):
    from rcan_video.errors import OutputError, WeightsError
    from rcan_video.frames import Mark
    from rcan_video.media.segment import Encoded
    from rcan_video.network import checkpoint
    from rcan_video.prepare import Ending
    from rcan_video.segments.store import JobFolder

import benchmarks.fuzz as made

_MARK = Mark(index=10, pts=5120, digest="00" * 16, damaged_packets=0, damaged_frames=0)
_ENCODED = Encoded(frames=10, first=0, end=5120, size=4000, headers="00" * 16)
_PLAN = {
    "version": 1,
    "identity": {"input": "0", "--scale": "2"},
    "by_pts": True,
    "frames": 20,
    "starts": [0, 5120],
}
_DONE = {
    "version": 1,
    "segments": {"0": {"encoded": asdict(_ENCODED), "mark": asdict(_MARK)}},
    "ending": asdict(Ending(20, 0, 0, 0, 0, ("a",))),
    "joined": 4000,
}


def read_checkpoint(data: bytes) -> None:
    try:
        checkpoint.from_bytes(data, "some.pth")
    except WeightsError as error:
        assert "\n" not in str(error)


class Records:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "job.rcan"

    def __call__(self, data: bytes) -> None:
        self.path.mkdir(mode=0o700, exist_ok=True)
        plan, _, done = data.partition(b"\0")
        (self.path / "plan.json").write_bytes(plan)
        (self.path / "done.json").write_bytes(done)
        try:
            with JobFolder(self.path) as job:
                if job.begun:
                    job.sweep()
                    assert job.done.frames == 0 and not job.segments()  # none of the files is there
                    assert all(0 <= number < len(job.plan) for number in job.missing()[:1000])
                    job.plan.segment(3, 5000)
                    job.plan.changed({"input": "1"})
                    json.dumps(dict(job.plan.identity))
        except OutputError as error:
            assert "\n" not in str(error)


_VALUES: list[object] = [
    None, True, -1, 0, 1, 7, 1 << 31, 1 << 63, 1 << 100, 1.5, 1e308, float("nan"), float("inf"), "", "x", "7", [], {},
    [0, 1], [1, 0], [0, 0], [[]], {"0": None}, {"-1": None}, {"x": {}},
]  # fmt: skip


def mutate_records(data: bytes, most: int, seed: int) -> bytes:
    """Another value in place of one of the two documents' own, where they can be read; libFuzzer knows no JSON."""
    rng = random.Random(seed)
    halves = data.partition(b"\0")[::2]
    try:
        documents = [json.loads(half) for half in halves]
    except (ValueError, RecursionError):
        return atheris.Mutate(data, most)
    if rng.random() < 0.2:
        return atheris.Mutate(data, most)
    for _ in range(rng.choice((1, 1, 2))):
        place, key = documents, rng.randrange(2)
        while isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
            place = place[key]
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        what = rng.random()
        if isinstance(place, dict) and what < 0.1:
            del place[key]
        elif isinstance(place, dict) and what < 0.2:
            place[str(rng.choice(("0", "1", "-1", "x", "1e3", key)))] = copy.deepcopy(place[key])
        else:
            place[key] = copy.deepcopy(rng.choice(_VALUES))
        if not all(isinstance(document, dict | list) for document in documents):
            break
    return b"\0".join(json.dumps(document).encode() for document in documents)[:most]


def main() -> None:
    kind = sys.argv.pop(1)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        seeds = folder / "seeds"
        seeds.mkdir()
        if kind == "checkpoint":
            made.checkpoints(seeds)
            target, more = read_checkpoint, {}
        else:
            (seeds / "whole").write_bytes(json.dumps(_PLAN).encode() + b"\0" + json.dumps(_DONE).encode())
            target, more = Records(folder), {"custom_mutator": mutate_records}
        atheris.Setup([*sys.argv, str(seeds)], target, **more)
        atheris.Fuzz()
        os._exit(0)


if __name__ == "__main__":
    main()
