"""How far half precision is from float32, on the picture of the trial and on a crop of a clip::

    python benchmarks/precision.py CLIP [CHECKPOINT ...]

One row for every bundled network and every checkpoint named: the largest difference in codes and the PSNR of the worst
plane, after rounding, of one frame through torch's engine on the CPU.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from rcan_video.engine.task import BodyPrecision, Task
from rcan_video.engine.torch_engine import TorchEngine
from rcan_video.engine.trial import picture
from rcan_video.frames import ColorSpec, Frame, FrameBatch, PlaneLayout
from rcan_video.media.decode import Source
from rcan_video.metrics import psnr
from rcan_video.network.catalog import LoadedModel, entries, load_model

SIZE = (96, 64)
DEPTHS = (8, 10)
HALVES: tuple[BodyPrecision, ...] = ("half", "bf16")


def layout_of(depth: int) -> PlaneLayout:
    return PlaneLayout("yuv", depth, 1, 1)


def crop(clip: str) -> Frame:
    """The middle of the sixth frame, which is 8-bit 4:2:0."""
    with Source(clip) as source:
        assert source.info.layout == layout_of(8), f"{clip} is no 8-bit 4:2:0"
        frame = next(frame for frame in source.frames() if frame.index == 5)
        left, top = (
            (side - own) // 4 * 2 for side, own in zip((source.info.width, source.info.height), SIZE, strict=True)
        )
        planes = []
        for plane, (height, width) in zip(frame.planes, source.info.layout.shapes(*SIZE), strict=True):
            down = SIZE[0] // width
            x, y = left // down, top // down
            planes.append(from_dlpack(plane)[y : y + height, x : x + width].clone())
    return Frame(tuple(planes), 0, 1, 0)


def enlarged(model: LoadedModel, layout: PlaneLayout, frame: Frame, precision: BodyPrecision) -> tuple[Tensor, ...]:
    stored = (layout, ColorSpec(1, False, "left"))
    task = Task(model, stored, stored, SIZE, precision=precision)
    engine = TorchEngine(task.module(frugal=True), layout, SIZE, layout, model.scale, torch.device("cpu"), 1)
    (done,) = engine.result(engine.submit(FrameBatch((replace(frame, index=0),)))).frames
    engine.close()
    return tuple(from_dlpack(plane) for plane in done.planes)


def row(model: LoadedModel, cases: list[tuple[PlaneLayout, Frame]]) -> str:
    cells: dict[BodyPrecision, list[str]] = {half: [] for half in HALVES}
    for layout, frame in cases:
        expected = enlarged(model, layout, frame, "single")
        for half in HALVES:
            pairs = list(zip(enlarged(model, layout, frame, half), expected, strict=True))
            most = max(int((one.int() - other.int()).abs().max()) for one, other in pairs)
            least = min(psnr(one.numpy(), other.numpy(), 2**layout.depth - 1) for one, other in pairs)
            cells[half].append(f"{most}, {least:.1f} dB")
    return f"| {model.name} x{model.scale} | " + " | ".join(cell for half in HALVES for cell in cells[half]) + " |"


def main(clip: str, *checkpoints: str) -> None:
    cases = [(layout_of(depth), picture(layout_of(depth), SIZE)) for depth in DEPTHS] + [(layout_of(8), crop(clip))]
    columns = [f"{half}: {case}" for half in HALVES for case in ("trial, 8 bits", "trial, 10 bits", "clip, 8 bits")]
    print(f"| network | {' | '.join(columns)} |\n|" + "---|" * (len(columns) + 1))
    bundled = [load_model(entry.name, entry.scale) for entry in entries()]
    for model in (*bundled, *map(load_model, checkpoints)):
        print(row(model, cases), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
