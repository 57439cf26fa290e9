"""Peak memory of the whole command, by size, scale, engine and length: ``python benchmarks/memory.py [CASE ...]``.

Makes its clips (H.264, pictures that all differ, so that none is taken for a repeat) in a temporary folder. The peak is
what the kernel counted as the process's highest resident set (``ru_maxrss`` of ``wait4``; ``VmHWM`` in ``/proc``).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from rcan_video.commands.waiting import peak_memory


@dataclass(frozen=True, slots=True)
class Case:
    """``size`` is (width, height) of the clip; ``limit`` the bound in MB (10**6 bytes) that it is held against.

    The model is ``fast``, or, with ``blocks``, ten groups of so many blocks of 64 features with random weights: 20 are
    the network of the paper, which takes its time on a CPU; with fewer it has the same maps and less weights.
    """

    size: tuple[int, int]
    scale: int
    frames: int
    blocks: int | None = None
    limit: float | None = None


CASES = {
    "1080p-x2": Case((1920, 1080), 2, 12, limit=1500),
    "1080p-x4": Case((1920, 1080), 4, 6, limit=2500),
    "720p-rcan-x4": Case((1280, 720), 4, 1, blocks=20, limit=3500),
    "720p-shallow-x4": Case((1280, 720), 4, 1, blocks=1, limit=3500),
    "small-rcan-x4": Case((160, 90), 4, 1, blocks=20),
    "5s": Case((160, 90), 2, 125),
    "60s": Case((160, 90), 2, 1500),
}
_SQUARE = 64  # side in pixels of the flat squares that the pictures are made of: they cost the encoder little


def make_clip(path: Path, case: Case) -> None:
    """Squares of random grey on a ramp, other ones in every frame; 25 frames a second."""
    width, height = case.size
    random = np.random.default_rng(1)
    ramp = np.linspace(0, 60, width, dtype=np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(case.frames):
            squares = random.integers(0, 190, (-(-height // _SQUARE), -(-width // _SQUARE)))
            grey = squares.repeat(_SQUARE, 0).repeat(_SQUARE, 1)[:height, :width] + ramp
            frame = av.VideoFrame.from_ndarray(grey.astype(np.uint8), format="gray").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def make_rcan(path: Path, scale: int, blocks: int) -> None:
    """Random weights, made in a process of their own: torch would make this one larger than the smallest that it
    measures."""
    code = (
        "import sys, torch; from rcan_video.network.rcan import RCAN, RCANConfig; torch.manual_seed(1); "
        "torch.save(RCAN(RCANConfig(upscale=int(sys.argv[2]), blocks=int(sys.argv[3]))).state_dict(), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(scale), str(blocks)], check=True)


def peak(clip: Path, output: Path, case: Case, model: str, engine: str, preset: str | None) -> float:
    """MB that the command took at most."""
    line = [sys.executable, "-m", "rcan_video", str(clip), str(output), "-s", str(case.scale), "-m", model]
    line += ["--device", "cpu", "--engine", engine, "--quiet", "-y", "--restart"]
    line += [] if preset is None else ["--preset", preset]
    process = subprocess.Popen(line)
    found = peak_memory(process)
    if process.returncode:
        raise SystemExit(f"{' '.join(line)} ended with {process.returncode}")
    if found is None:
        raise SystemExit("this system does not count a process's memory")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all without any")
    parser.add_argument(
        "--engine", action="append", choices=["torch", "openvino"], help="may be repeated; both without"
    )
    parser.add_argument("--preset", default="ultrafast", help="of the encoder; 'default' is the command's own")
    arguments = parser.parse_args()
    preset = None if arguments.preset == "default" else arguments.preset
    print(f"| case | engine | preset {arguments.preset}: peak, MB | bound |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="rcan-memory-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # of the processes: nothing is compiled yet
        for name in arguments.cases or CASES:
            case = CASES[name]
            clip, model = Path(folder, f"{name}.mp4"), "fast"
            make_clip(clip, case)
            if case.blocks is not None:
                model = str(Path(folder, "rcan.pt"))
                make_rcan(Path(model), case.scale, case.blocks)
            for engine in arguments.engine or ["torch", "openvino"]:
                # Twice where a second run need not convert, and loads no torch.
                for run in (engine,) if engine == "torch" else (engine, f"{engine}, from its cache"):
                    figure = peak(clip, Path(folder, f"out-{name}.mp4"), case, model, engine, preset)
                    print(f"| {name} | {run} | {figure:.0f} | {case.limit or ''} |", flush=True)


if __name__ == "__main__":
    main()
