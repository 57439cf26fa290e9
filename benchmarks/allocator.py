"""The bare network with and without ``keep_freed_memory``, in turns: ``python benchmarks/allocator.py 480x270``."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time


def measure(size: str, keep: bool, frames: int = 10) -> None:
    """Print seconds a frame, system seconds and peak MiB of this process."""
    import torch

    from rcan_video.engine.memory import keep_freed_memory
    from rcan_video.network.catalog import load_model
    from rcan_video.network.fold import FoldedRCAN

    if keep:
        keep_freed_memory()
    width, height = map(int, size.split("x"))
    network = FoldedRCAN(load_model("fast", 2).net).to(memory_format=torch.channels_last)
    picture = torch.rand(1, 3, height, width).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(picture)
        begun = time.perf_counter()
        for _ in range(frames):
            network(picture)
        seconds = (time.perf_counter() - begun) / frames
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(seconds, usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    if len(sys.argv) == 3:
        measure(sys.argv[1], sys.argv[2] == "keep")
        return
    runs: dict[str, list[list[float]]] = {"default": [], "keep": []}
    for _ in range(5):
        for mode, figures in runs.items():
            line = [sys.executable, __file__, sys.argv[1], mode]
            figures.append([float(x) for x in subprocess.check_output(line, text=True).split()])
    for mode, figures in runs.items():
        seconds, system, peak = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"{mode:8} {seconds * 1000:7.1f} ms a frame, {system:5.1f} s in the kernel, peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
