"""torch's engine with and without ``--compile``, in turns: ``python benchmarks/compiled.py CLIP [PRECISION]``."""

from __future__ import annotations

import statistics
import sys
import time
from itertools import islice

from rcan_video.engine.choice import choose, open_engine
from rcan_video.engine.task import Task
from rcan_video.frames import FrameBatch
from rcan_video.media.decode import Source
from rcan_video.network.catalog import load_model
from rcan_video.options import DeviceOptions, Precision

FRAMES = 15


def main(clip: str, precision: Precision = "single") -> None:
    with Source(clip) as source:
        stored = (source.info.layout, source.info.color)
        task = Task(load_model("fast", 2), stored, stored, (source.info.width, source.info.height))
        frames = list(islice(source.frames(), FRAMES))
    engines = []
    for compiles in (False, True):
        begun = time.perf_counter()
        options = DeviceOptions("cpu", engine="torch", compile=compiles, precision=precision)
        engine = open_engine(choose(options), task, None, None, print)
        print(f"{engine.describe()}: open after {time.perf_counter() - begun:.1f} s")
        engines.append((engine, list[float]()))
    for frame in frames:
        for engine, seconds in engines:
            begun = time.perf_counter()
            engine.result(engine.submit(FrameBatch((frame,))))
            seconds.append(time.perf_counter() - begun)
    for engine, seconds in engines:
        print(f"{engine.describe()}: {statistics.median(seconds[1:]) * 1000:.0f} ms a frame, median of {FRAMES - 1}")
        engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
