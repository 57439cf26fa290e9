"""Engines of unequal speed as one pool, against the sum of their rates: ``python benchmarks/pool.py``.

The engines sleep for the time that a device would compute, so that the figure is the pool's and the pipeline's alone.
``--planes`` is the weight of one enlarged frame: the pipeline bounds what waits by bytes.
"""

from __future__ import annotations

import argparse
import threading
import time

import numpy as np

from rcan_video.engine.base import Ticket
from rcan_video.engine.pool import Pool
from rcan_video.frames import Frame, FrameBatch, PlaneLayout
from rcan_video.pipeline import run


class _Ready:
    def synchronize(self) -> None: ...

    def item(self) -> bool:
        return False


class Sleeper:
    """Takes ``seconds`` for every frame, and gives it back as it came."""

    batch = 1

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.frames = 0

    def describe(self) -> str:
        return f"{self._seconds * 1000:.0f} ms"

    def submit(self, batch: FrameBatch) -> Ticket:
        return Ticket(batch, _Ready(), _Ready())

    def result(self, ticket: Ticket) -> FrameBatch:
        time.sleep(self._seconds)
        self.frames += 1
        return ticket.output

    def close(self) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delays", default="1,3", help="of the engines, in units")
    parser.add_argument("--unit", type=float, default=0.01, help="seconds")
    parser.add_argument("--frames", type=int, default=1200)
    parser.add_argument("--planes", type=int, default=1 << 20, help="bytes of an enlarged frame")
    options = parser.parse_args()
    delays = [float(delay) * options.unit for delay in options.delays.split(",")]
    engines = [Sleeper(delay) for delay in delays]
    layout, size = PlaneLayout("gray"), (1024, max(1, options.planes // 1024))
    pool = Pool(engines, layout, size, print)
    frames = (Frame((np.full((2, 4), k, np.uint16),), k, 1, k) for k in range(options.frames))
    written: list[int] = []
    begun = time.perf_counter()
    run(frames, pool, lambda f: written.append(f.index), stop=threading.Event(), devices=len(engines))
    seconds = time.perf_counter() - begun
    pool.close()
    assert written == list(range(options.frames))
    reached, possible = options.frames / seconds, sum(1 / delay for delay in delays)
    shares = ", ".join(f"{engine.describe()}: {engine.frames}" for engine in engines)
    print(f"{reached:.1f} of {possible:.1f} frames/s, {reached / possible:.1%} ({shares})")


if __name__ == "__main__":
    main()
