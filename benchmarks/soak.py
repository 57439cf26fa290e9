"""Does the memory of a job depend on its length? Many small frames in one process, whose memory is read as they go.

    python -m benchmarks.soak --frames 20000 --size 64x48

Prints the resident memory after every 1,000 frames, its slope in bytes for 1,000 frames (least squares, without
the first tenth, in which caches and pools fill), and the threads and open files before and after. Needs Linux.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import threading
import time
from pathlib import Path

import av
import numpy as np

from rcan_video import Options, upscale
from rcan_video.options import DeviceOptions, EncodeOptions
from rcan_video.progress import Silent
from tests.clips import make_clip

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """Bytes of this process that lie in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def threads() -> tuple[int, int]:
    """Of the system, torch's pool among them, and those that Python knows."""
    return len(list(Path("/proc/self/task").iterdir())), threading.active_count()


class Gauge(Silent):
    """Notes the memory at every 100th frame, and prints it at every 1,000th."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def update(self, done: int) -> None:
        if done % 100 == 0:
            self.seen.append((done, resident()))
        if done % 1000 == 0:
            print(f"{done:7} frames: {self.seen[-1][1] / 1e6:.1f} MB", flush=True)


def job(source: Path, target: Path) -> Options:
    return Options(
        str(source),
        str(target),
        device=DeviceOptions("cpu", threads=1),
        encode=EncodeOptions(codec="libx264", preset="ultrafast", options={"threads": "1"}),
        overwrite=True,
    )


def noise(size: tuple[int, int], index: int) -> av.VideoFrame:
    """A frame that no other is like."""
    pixels = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--size", default="64x48")
    parser.add_argument("--suffix", default=".mp4", help="of the output")
    chosen = parser.parse_args()
    width, height = map(int, chosen.size.split("x"))
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder, fast = Path(name), {"preset": "ultrafast", "g": "50"}
        clips = [
            make_clip(
                folder / f"{frames}.mp4",
                size=(width, height),
                frames=frames,
                audio=1,
                options=fast,
                draw=lambda k: noise((width, height), k),
            )
            for frames in (200, chosen.frames)
        ]
        target = folder / f"out{chosen.suffix}"
        upscale(job(clips[0], target))  # what is loaded and opened once
        gc.collect()
        before, gauge, begun = (threads(), open_files(), resident()), Gauge(), time.monotonic()
        report = upscale(job(clips[1], target), gauge)
        seconds = time.monotonic() - begun
        gc.collect()
        after = threads(), open_files(), resident()
    done, memory = np.array(gauge.seen).T
    steady = done > chosen.frames // 10
    slope = np.polyfit(done[steady], memory[steady], 1)[0] * 1000
    print(f"{report.frames_out} frames in {seconds:.0f} s; {slope / 1e3:+.1f} kB for 1,000 frames")
    print(
        f"most memory after the first tenth {memory[steady].max() / 1e6:.1f} MB, least {memory[steady].min() / 1e6:.1f}"
    )
    for what, one, other in zip(("threads (all, Python's)", "open files", "bytes"), before, after, strict=True):
        print(f"{what}: {one} before, {other} after")


if __name__ == "__main__":
    main()
