"""Kill ``rcan-video`` at any moment, run the same command again, and compare what comes out with an unbroken run.

    python -m benchmarks.faults                    60 kill -9 at random moments, every third of them in the join
    python -m benchmarks.faults --signal term      the same with SIGTERM
    python -m benchmarks.faults --kills 0 --steps  kill -9 before each single change of a file's name or content
    python -m benchmarks.faults --kills 0 --disk-full 20

Exit code 0: every output has the frames (times and planes) of the unbroken run. Needs Linux; for ``--disk-full`` a root
that may mount.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from benchmarks.forked import Command, Ended
from rcan_video.segments import job as segments_job
from tests.clips import Planes, make_clip, read_video

FRAMES = 60
LENGTH = 10  # frames of a segment
SIZE = (64, 48)
_ENCODER = ("--codec", "libx264", "--preset", "ultrafast", "--encoder-opt", "threads=1")
_DEVICE = ("--device", "cpu", "--batch", "1", "--threads", "1")
_X265 = "keyint=12:min-keyint=12:scenecut=0:open-gop=1:bframes=3:pools=1:frame-threads=1:log-level=none"

Frames = list[tuple[Fraction | None, str]]


@dataclass(frozen=True)
class Source:
    name: str
    output: str
    clip: Mapping[str, Any]

    @property
    def suffix(self) -> str:
        return self.name.rpartition(" ")[2]


SOURCES = (
    Source("h264 with B-frames .mp4", "out.mp4", {"codec": "libx264", "audio": 1, "options": {"g": "12", "bf": "3"}}),
    Source("hevc, open GOP .mkv", "out.mkv", {"codec": "libx265", "options": {"x265-params": _X265}}),
    Source(
        "vp9 with hidden frames .webm",
        "out.mkv",
        {
            "codec": "libvpx-vp9",
            "options": {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8", "b": "300k"},
        },
    ),
    Source("mpeg2 with B-frames .ts", "out.mp4", {"codec": "mpeg2video", "options": {"g": "12", "bf": "2", "b": "1M"}}),
    Source(
        "av1 .mp4", "out.mp4", {"codec": "libsvtav1", "options": {"g": "12", "preset": "12", "svtav1-params": "lp=1"}}
    ),
    Source("h264, raw .h264", "out.mp4", {"codec": "libx264", "options": {"g": "12", "bf": "3"}}),
    Source("mpeg4 .avi", "out.mkv", {"codec": "mpeg4", "audio": 1, "audio_codec": "mp2", "options": {"g": "12"}}),
)


@dataclass
class Tally:
    """What all the kills came to."""

    kills: int = 0
    too_late: int = 0
    lost: int = 0
    doubled: int = 0
    other: int = 0
    faults: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)

    def compare(self, what: str, found: Frames, wanted: Frames) -> None:
        times, due = Counter(time for time, _ in found), Counter(time for time, _ in wanted)
        lost, doubled = (due - times).total(), (times - due).total()
        other = sum(a != b for a, b in zip(found, wanted, strict=False)) if not lost and not doubled else 0
        self.lost += lost
        self.doubled += doubled
        self.other += other
        if lost or doubled or other:
            self.faults.append(f"{what}: {lost} frames lost, {doubled} doubled or moved, {other} with other planes")


def short_segments() -> None:
    segments_job.choose_length = lambda *_: LENGTH


def frames_of(path: Path) -> Frames:
    def digest(planes: Planes) -> str:
        return hashlib.blake2b(b"".join(plane.tobytes() for plane in planes)).hexdigest()

    return [(at, digest(planes)) for at, planes in read_video(path)]


class Bench:
    """One clip, what the unbroken run makes of it, and a folder to interrupt others in."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source = source
        self.folder = folder
        self.input = make_clip(folder / f"in{source.suffix}", size=SIZE, frames=FRAMES, **source.clip)
        self.work = folder / "work"
        self.work.mkdir(exist_ok=True)
        self.output = self.work / source.output
        self.job = self.work / f"{source.output}.rcan"
        running = self.start()
        joining = self.wait_for_join(running)
        whole = running.wait()
        if whole.code:
            raise SystemExit(f"{source.name}: the unbroken run ended with {whole.code}: {whole.said}")
        self.wanted = frames_of(self.output)
        if len(self.wanted) != FRAMES or self.job.exists():
            raise SystemExit(f"{source.name}: {len(self.wanted)} frames instead of {FRAMES}")
        self.seconds = whole.seconds
        self.join_seconds = whole.seconds - joining
        self.clear()
        whole = self.start().wait()  # the first one found nothing in the caches
        self.seconds = min(self.seconds, whole.seconds)
        self.bytes = self.output.stat().st_size
        self.clear()

    def start(self, before: Any = lambda: None) -> Command:
        def prepare() -> None:
            short_segments()
            before()

        return Command([self.input, self.output, *_ENCODER, *_DEVICE], self.folder / "log", prepare)

    def wait_for_join(self, running: Command) -> float:
        """Until every segment is recorded; seconds since it was called."""
        begun = time.monotonic()
        while not running.poll() and self.recorded() < FRAMES // LENGTH:
            time.sleep(0.0005)
        return time.monotonic() - begun

    def clear(self) -> None:
        shutil.rmtree(self.work)
        self.work.mkdir()

    def recorded(self) -> int:
        """Segments that ``done.json`` knows."""
        try:
            return len(json.loads((self.job / "done.json").read_text())["segments"])
        except (OSError, ValueError):
            return 0

    def state(self) -> str:
        """What a kill has left, by the table of the document that lays segments down."""
        if not self.job.exists():
            return "whole, folder gone" if self.output.exists() else "nothing yet"
        names = {path.name for path in self.job.iterdir()}
        done, all_done = self.recorded(), FRAMES // LENGTH
        if self.output.exists():
            return "whole under its name, folder left"
        if any(name.startswith("joined.part") for name in names):
            joined = json.loads((self.job / "done.json").read_text())["joined"]
            return "joined, not renamed" if joined is not None else "in the join"
        if done == all_done:
            return "all segments recorded, no join begun"
        if "done.json" not in names:
            return "folder without a plan or record"
        parts = [name for name in names if re.fullmatch(r"\d+\.\w+\.part", name)]
        renamed = sum(bool(re.fullmatch(r"\d+\.\w+", name)) for name in names)
        if renamed > done:
            return "segment renamed, not recorded"
        return f"{'within a segment' if parts else 'between segments'}, {'some' if done else 'none'} recorded"

    def check(self, tally: Tally, what: str, killed: Ended) -> None:
        """Run it again until it is done, and compare."""
        kept = self.recorded() * LENGTH
        left = self.output.exists()
        if left and frames_of(self.output) != self.wanted:
            tally.faults.append(f"{what}: a file under the final name that is not whole")
        done = self.start().wait()
        tidied = left and done.code == 4 and "exists already" in done.last_line  # nothing was left to be done
        if (done.code and not tidied) or done.traceback:
            tally.faults.append(f"{what}: the run after it ended with {done.code}: {done.last_line}")
        elif kept and not left and f"{kept} of {FRAMES} frames are kept" not in done.said:
            tally.faults.append(f"{what}: {kept} frames were recorded and not all of them kept")
        if not self.output.exists():
            tally.faults.append(f"{what}: no output")
        else:
            tally.compare(what, frames_of(self.output), self.wanted)
        # A part file from before there was a folder is its process's own, which kill -9 keeps from removing it.
        hidden = r"\..*\.part\.\w+" if killed.code == -signal.SIGKILL else r"(?!)"
        left_behind = [path.name for path in self.work.iterdir() if path != self.output]
        if names := [name for name in left_behind if not re.fullmatch(hidden, name)]:
            tally.faults.append(f"{what}: {', '.join(names)} left behind")
        self.clear()


def kill_by_the_clock(bench: Bench, tally: Tally, number: int, rng: random.Random, *, in_join: bool) -> None:
    """A signal at a random moment of the run; ``in_join``: of what comes once every segment is recorded."""
    command = bench.start()
    if in_join:
        bench.wait_for_join(command)
        time.sleep(rng.uniform(0, 1) * bench.join_seconds)
    else:
        time.sleep(rng.uniform(0.05, 1) * bench.seconds)
    command.send(number)
    ended = command.wait()
    if ended.code == 0:
        tally.too_late += 1
        tally.states["done already"] += 1
    else:
        tally.kills += 1
        tally.states[bench.state()] += 1
        expected = {-number} if number == signal.SIGKILL else {-number, 130}
        if ended.code not in expected or ended.traceback:
            tally.faults.append(f"{bench.source.name}: ended with {ended.code}: {ended.last_line}")
    bench.check(tally, f"{bench.source.name}, {signal.Signals(number).name}", ended)


def kill_at_every_step(bench: Bench, tally: Tally) -> int:
    """kill -9 just before each change of a name or a content in the working folder, one run for each; how many."""
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    for step in range(1, 1000):
        left = [step]

        def watch(event: str, arguments: tuple[Any, ...], left: list[int] = left) -> None:
            if event == "open":
                touched = bool(arguments[2] and arguments[2] & changing)
            else:
                touched = event in {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
            if touched and str(arguments[0]).startswith(str(bench.work)):
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)

        ended = bench.start(lambda watch=watch: sys.addaudithook(watch)).wait()
        if ended.code == 0:
            bench.clear()
            return step - 1
        tally.kills += 1
        tally.states[bench.state()] += 1
        if ended.code != -signal.SIGKILL:
            tally.faults.append(f"{bench.source.name}: ended with {ended.code}: {ended.last_line}")
        bench.check(tally, f"{bench.source.name}, step {step}", ended)
    raise AssertionError("a run without end")


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk of ``size`` bytes in memory, mounted at ``folder``."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill_disk(bench: Bench, tally: Tally, free: int) -> str:
    """A run with ``free`` bytes left on the output's disk, and another once there is room. How the first one ended."""
    ballast = bench.work / "ballast"
    room = shutil.disk_usage(bench.work).free
    ballast.write_bytes(bytes(max(0, room - free)))
    ended = bench.start().wait()
    what = f"{bench.source.name}, {free} bytes free"
    if ended.code == 0:
        outcome = "there was room enough"
    else:
        outcome = f"exit {ended.code}, {bench.state()}"
        sentence = ended.last_line
        full = "the disk is full" in sentence or "its disk has" in sentence
        if ended.code != 4 or ended.traceback or not full or ". " in sentence.rstrip("."):
            tally.faults.append(f"{what}: exit {ended.code}: {ended.said.strip()}")
        if bench.output.exists():
            tally.faults.append(f"{what}: an output under the final name after a failure")
    tally.kills += 1
    tally.states[outcome] += 1
    ballast.unlink()
    bench.check(tally, what, ended)
    return outcome


class SmallDisk(Bench):
    """A bench whose working folder is a disk of its own."""

    def clear(self) -> None:
        for path in self.work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def told(title: str, tally: Tally, begun: float) -> int:
    print(f"\n{title}: {tally.kills} in {time.monotonic() - begun:.0f} s")
    if tally.too_late:
        print(f"  {tally.too_late} more came too late, the job was done")
    for state, count in sorted(tally.states.items()):
        print(f"  {count:4}  {state}")
    print(f"  frames lost {tally.lost}, doubled or moved {tally.doubled}, with other planes {tally.other}")
    for fault in tally.faults:
        print(f"  FAULT {fault}")
    print(f"  {len(tally.faults)} faults", flush=True)
    return len(tally.faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--signal", choices=["kill", "term", "int", "hup"], default="kill")
    parser.add_argument("--steps", action="store_true", help="kill -9 at every single step of the first clip")
    parser.add_argument("--disk-full", type=int, default=0, metavar="N", help="N levels of a disk that is nearly full")
    parser.add_argument("--seed", type=int, default=6)
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    number = signal.Signals[f"SIG{chosen.signal.upper()}"]
    faults = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))

        def made(source: Source) -> Bench:
            place = folder / source.name.replace(" ", "_")
            place.mkdir()
            bench = Bench(source, place)
            after = 1000 * bench.join_seconds
            print(f"{source.name}: {bench.seconds:.2f} s, of them {after:.0f} ms after the last segment", flush=True)
            return bench

        benches: list[Bench] = []
        if chosen.kills:
            benches = [made(source) for source in SOURCES]
            tally, begun = Tally(), time.monotonic()
            turn = 0
            while tally.kills < chosen.kills and turn < 8 * chosen.kills:
                kill_by_the_clock(benches[turn % len(benches)], tally, number, rng, in_join=turn % 3 == 2)
                turn += 1
            faults += told(f"{number.name} at random moments", tally, begun)
        if chosen.steps:
            bench = benches[0] if benches else made(SOURCES[0])
            tally, begun = Tally(), time.monotonic()
            steps = kill_at_every_step(bench, tally)
            faults += told(f"SIGKILL before each of {steps} steps of {bench.source.name}", tally, begun)
        if chosen.disk_full:
            place = folder / "disk"
            place.mkdir()
            tally, begun = Tally(), time.monotonic()
            stack.enter_context(small_disk(place / "work", 4 << 20))
            bench = SmallDisk(SOURCES[0], place)
            print(f"{bench.source.name} on a disk of 4 MiB: {bench.bytes} bytes", flush=True)
            for _ in range(chosen.disk_full):
                fill_disk(bench, tally, int(rng.uniform(0, 2.5) * bench.bytes))
            faults += told("fill levels of a disk", tally, begun)
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
