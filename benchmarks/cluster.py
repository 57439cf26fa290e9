"""A job on ``--ray local`` beside the same job here, and under kills: ``python benchmarks/cluster.py WHAT ...``.

    equal    a clip on two one-CPU workers and here: the same frames?
    time     the whole job against the ideal split: two processes here with one thread, each with half of the clip
    workers  runs in each of which one worker is killed (SIGKILL) at a random moment
    driver   runs in which the driver is killed and the job is run again
    memory   the driver's memory and the object store's over many short segments

Makes its clip in a temporary folder. A run fails where frames are lost, doubled or other ones, or where a segment that
was recorded is sent away again. ``time`` wants a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

# What the measured process runs: the command, with segments of a fixed length, and a log of what its driver does.
_PROGRAM = """
import os, sys
import rcan_video.segments.job as local
from rcan_video.distributed.driver import Driver
from rcan_video.distributed.receive import Receiver
length, log = int(sys.argv.pop(1)), open(sys.argv.pop(1), "a", buffering=1)
local.choose_length = Driver.length = lambda *_: length
send, keep = Driver._send, Receiver.keep
def sends(self, folder, cutter, worker, number):
    global driver
    driver = self
    sent = send(self, folder, cutter, worker, number)
    if sent:
        print("send", number, int(number in folder.done.records), file=log)
    return sent
def keeps(self, folder, answer):
    found = keep(self, folder, answer)
    ray = driver._crew._ray
    used = ray.cluster_resources()["object_store_memory"] - ray.available_resources().get("object_store_memory", 0)
    rss = int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    print("keep", answer.number, rss, int(used), sum(driver._weights.values()), file=log)
    return found
Driver._send, Receiver.keep = sends, keeps
from rcan_video.commands.upscale import main
main()
"""


def make_clip(path: Path, frames: int, size: tuple[int, int]) -> None:
    """Squares of random grey on a ramp, other ones in every frame; 25 frames a second."""
    width, height = size
    chance = np.random.default_rng(1)
    ramp = np.linspace(0, 60, width, dtype=np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "20", "g": "25"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            squares = chance.integers(0, 190, (-(-height // 16), -(-width // 16)))
            grey = squares.repeat(16, 0).repeat(16, 1)[:height, :width] + ramp
            frame = av.VideoFrame.from_ndarray(grey.astype(np.uint8), format="gray").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Bench:
    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.length = options.length
        self.clip = folder / "clip.mp4"
        self.log = folder / "log"
        size = tuple(int(side) for side in options.size.split("x"))
        make_clip(self.clip, options.frames, (size[0], size[1]))

    def start(self, out: str, *more: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-c", _PROGRAM, str(self.length), str(self.log), str(self.clip), str(self.folder / out)]
        line += ["--threads", "1", "-d", "cpu", "--preset", "ultrafast", "--encoder-opt", "threads=1", "-q", *more]
        return subprocess.Popen(line, stdin=subprocess.DEVNULL)

    def run(self, out: str, *more: str) -> float:
        begun = time.perf_counter()
        process = self.start(out, *more)
        assert process.wait(timeout=900) == 0, f"{out} failed"
        return time.perf_counter() - begun

    def entries(self, kind: str) -> list[list[int]]:
        if not self.log.exists():
            return []
        rows = [line.split() for line in self.log.read_text().splitlines()]
        return [[int(word) for word in row[1:]] for row in rows if row[0] == kind]

    def check(self, out: str, wanted: str = "here.mp4") -> None:
        assert packets(self.folder / out) == packets(self.folder / wanted), f"{out} is another than {wanted}"
        (self.folder / out).unlink()


def packets(path: Path) -> list[tuple[int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux(video=0) if packet.size]


def workers_of(process: int) -> list[int]:
    """The processes of Ray's workers below ``process``."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(entry.parent.name)] = int(entry.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found = []
    for pid in parents:
        above = pid
        while above in parents and above != process:
            above = parents[above]
        try:
            if above == process and Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(pid)
        except OSError:
            continue
    return found


def equal(bench: Bench, runs: int) -> None:
    bench.run("here.mp4")
    bench.run("ray.mp4", "--ray", "local")
    bench.check("ray.mp4")
    print("equal, bit for bit")


def timing(bench: Bench, runs: int) -> None:
    half = f"{len(packets(bench.clip)) / 50:g}"
    ratios = []
    for number in range(runs):
        begun = time.perf_counter()
        pair = [bench.start(f"a{number}.mp4", "--duration", half), bench.start(f"b{number}.mp4", "--start", half)]
        assert [process.wait(timeout=900) for process in pair] == [0, 0]
        ideal = time.perf_counter() - begun
        cluster = bench.run(f"c{number}.mp4", "--ray", "local")
        ratios.append(cluster / ideal)
        print(f"two halves {ideal:.2f} s, Ray {cluster:.2f} s, {ratios[-1]:.3f}", flush=True)
    print(f"median {statistics.median(ratios):.3f}")


def kill_workers(bench: Bench, runs: int) -> None:
    chance = random.Random(1)
    usual = bench.run("here.mp4")
    segments = kills = twice = 0
    for number in range(runs):
        bench.log.unlink(missing_ok=True)
        process = bench.start("out.mp4", "--ray", "local")
        while not bench.entries("keep") and process.poll() is None:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, usual / 4))
        victims = workers_of(process.pid)
        if victims:
            os.kill(chance.choice(victims), signal.SIGKILL)
            kills += 1
        assert process.wait(timeout=900) == 0, f"run {number}"
        bench.check("out.mp4")
        sent = bench.entries("send")
        segments = len({number for number, _ in sent})
        assert not any(recorded for _, recorded in sent), "a recorded segment was sent again"
        again = len(sent) - segments
        assert again <= 2, f"{again} segments were sent again"
        twice += again
        print(f"run {number}: {segments} segments, {again} sent again", flush=True)
    print(f"{runs} runs, {kills} workers killed, 0 frames lost or doubled, {twice} of {runs * segments} segments twice")


def kill_driver(bench: Bench, runs: int) -> None:
    chance = random.Random(2)
    usual = bench.run("here.mp4")
    for number in range(runs):
        bench.log.unlink(missing_ok=True)
        process = bench.start("out.mp4", "--ray", "local")
        while not bench.entries("keep") and process.poll() is None:
            time.sleep(0.05)
        time.sleep(chance.uniform(0, usual / 3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = set(json.loads((bench.folder / "out.mp4.rcan" / "done.json").read_text())["segments"])
        bench.log.unlink()
        time.sleep(2)  # the dead driver's cluster ends by itself
        bench.run("out.mp4", "--ray", "local")
        again = {str(sent) for sent, _ in bench.entries("send")} & done
        assert not again, f"recorded segments were sent again: {again}"
        bench.check("out.mp4")
        print(f"run {number}: {len(done)} segments were kept, none of them sent again", flush=True)


def memory(bench: Bench, runs: int) -> None:
    bench.run("out.mp4", "--ray", "local")
    kept = bench.entries("keep")
    for place in sorted({0, len(kept) // 10, len(kept) // 2, len(kept) - 1}):
        _, rss, store, flight = kept[place]
        shown = f"driver {rss / 1e6:.1f} MB, store {store / 1e6:.2f} MB, under way {flight / 1e6:.2f} MB"
        print(f"segment {place + 1}: {shown}")
    print(
        f"most: store {max(row[2] for row in kept) / 1e6:.2f} MB, under way {max(row[3] for row in kept) / 1e6:.2f} MB"
    )


_WHAT = {"equal": equal, "time": timing, "workers": kill_workers, "driver": kill_driver, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=_WHAT)
    parser.add_argument("--frames", type=int, default=1500)
    parser.add_argument("--size", default="160x90")
    parser.add_argument("--length", type=int, default=187, help="frames of a segment")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _WHAT[options.what](Bench(Path(folder), options), options.runs)


if __name__ == "__main__":
    main()
