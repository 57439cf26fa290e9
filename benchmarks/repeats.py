"""What frames that repeat save, and what looking for them costs.

    python benchmarks/repeats.py CLIP --frames 150 --runs 5

Doubles every frame of the clip, losslessly (FFV1), and runs the whole command on the clip as it is and doubled, in
turns: frames per second of the one against the other. Then times the digest of a frame's planes alone, on frames in
memory, as a share of the time that the command takes for a frame of the clip without repeats.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame

from rcan_video.frames import digest
from rcan_video.media.decode import Source


def read(path: str, count: int) -> list[VideoFrame]:
    frames: list[VideoFrame] = []
    with av.open(path) as container:
        for frame in container.decode(container.streams.best("video")):
            frames.append(frame)
            if len(frames) == count:
                break
    return frames


def write(path: Path, frames: list[VideoFrame], times: int) -> None:
    """Every frame ``times`` times, at 25 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        stream.time_base = Fraction(1, 25)
        for number in range(len(frames) * times):
            frame = frames[number // times]
            frame.pts, frame.time_base = number, stream.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def seconds(clip: Path, output: Path, model: str) -> float:
    begin = time.perf_counter()
    line = [sys.executable, "-m", "rcan_video", str(clip), str(output), "-m", model]
    line += ["--device", "cpu", "--preset", "ultrafast", "--quiet", "-y", "--restart"]
    subprocess.run(line, check=True)
    return time.perf_counter() - begin


def hashing(clip: Path) -> float:
    """Seconds for the digest of one frame, the median of all."""
    taken = []
    with Source(str(clip)) as source:
        for frame in source.frames():
            begin = time.perf_counter()
            digest(frame.planes)
            taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="fast")
    arguments = parser.parse_args()
    frames = read(arguments.clip, arguments.frames)
    with tempfile.TemporaryDirectory(prefix="rcan-repeats-") as folder:
        once, twice, output = (Path(folder, name) for name in ("once.mkv", "twice.mkv", "out.mp4"))
        write(once, frames, 1)
        write(twice, frames, 2)
        seconds(once, output, arguments.model)  # fills the cache of compiled networks
        runs = [(seconds(once, output, arguments.model), seconds(twice, output, arguments.model))
                for _ in range(arguments.runs)]  # fmt: skip
        plain, doubled = (statistics.median(run[kind] for run in runs) for kind in (0, 1))
        count, share = len(frames), hashing(once) / (plain / len(frames))
    print(f"{count} frames: {count / plain:.2f} frames/s; each twice: {2 * count / doubled:.2f} frames/s, "
          f"{2 * plain / doubled:.2f}x; the digest takes {share:.2%} of a frame's time")  # fmt: skip


if __name__ == "__main__":
    main()
