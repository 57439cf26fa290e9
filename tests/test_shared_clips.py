"""Real clips, and the figures that the model card promises, through the whole command."""

import statistics
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from clips import SHARED, read_packets, shared

from rcan_video import Options, load_model, probe
from rcan_video.metrics import Pixels, psnr_y
from rcan_video.network.catalog import entries
from rcan_video.network.fold import FoldedRCAN
from rcan_video.resize import enlarge

pytestmark = pytest.mark.slow

CLIPS = sorted((SHARED / "data/clips").glob("*"))
DURATION = Fraction(2, 5)


def upscale(*arguments: object) -> None:
    """The command, as a process of its own."""
    line = [sys.executable, "-m", "rcan_video", *map(str, arguments), "--quiet"]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def times(path: Path, duration: Fraction | None = None) -> list[float]:
    """PTS in seconds of all decoded frames, or of those within ``duration`` of the first."""
    found: list[Fraction] = []
    with av.open(str(path)) as file:
        stream = file.streams.best("video")
        assert stream is not None
        for frame in file.decode(stream):
            time = Fraction(frame.pts * stream.time_base)  # type: ignore[operator]
            if duration is not None and found and time >= found[0] + duration:
                break
            found.append(time)
    return [float(time) for time in found]


def size_and_tags(path: Path) -> tuple[int, int, object]:
    info = probe(str(path))
    return info.width, info.height, info.color.tags


@pytest.mark.skipif(not CLIPS, reason="no shared test data here")
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_a_clip_differs_in_its_size_alone(tmp_path: Path, clip: Path) -> None:
    output = tmp_path / f"out{clip.suffix}"
    upscale(clip, output, "--duration", float(DURATION), "--preset", preset(clip))
    source = times(clip, DURATION)
    assert len(source) > 2
    assert times(output) == pytest.approx(source, abs=1e-3)
    width, height, tags = size_and_tags(clip)
    assert size_and_tags(output) == (2 * width, 2 * height, tags)

    for track in range(len(probe(str(clip)).of_kind("audio"))):
        before, after = read_packets(clip, "audio", track), read_packets(output, "audio", track)
        end = Fraction(source[0]) + DURATION
        expected = [packet for packet in before if packet.time is not None and packet.time < end]
        assert [packet.data for packet in after] == [packet.data for packet in expected]
        assert [float(packet.time or 0) for packet in after] == pytest.approx(
            [float(packet.time or 0) for packet in expected], abs=1e-3
        )


def preset(clip: Path) -> str:
    return "realtime" if clip.suffix == ".webm" else "ultrafast"


def read_png(path: Path) -> Pixels:
    picture: Any = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    return np.asarray(picture)


def test_set5_through_the_whole_command(tmp_path: Path) -> None:
    """Lossless RGB in and out, one frame a picture: the command adds nothing to the network, and takes nothing."""
    folder = shared("sr/Set5")
    network = FoldedRCAN(load_model("fast", 2).net)
    (card,) = [e.scores["Set5"] for e in entries() if (e.name, e.scale) == (Options("", "").model.model, 2)]
    scores = []
    for low in sorted((folder / "LRBI/x2").glob("*.png")):
        lr, hr = read_png(low), read_png(folder / "HR/x2" / low.name)
        clip, output = tmp_path / f"{low.stem}.mkv", tmp_path / f"{low.stem}_x2.mkv"
        write_lossless(clip, lr)
        upscale(clip, output, "--codec", "ffv1")
        with av.open(str(output)) as file:
            (frame,) = file.decode(video=0)
        sr = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
        with torch.inference_mode():
            own = network(torch.from_numpy(lr).permute(2, 0, 1)[None] / 255)
        own_sr = (own[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        score = psnr_y(hr, sr, 2)
        assert score == pytest.approx(psnr_y(hr, own_sr, 2), abs=0.02)
        scores.append((score, psnr_y(hr, enlarge(lr, 2), 2)))
    assert len(scores) == 5
    ours, plain = (statistics.mean(column) for column in zip(*scores, strict=True))
    assert ours == pytest.approx(card["psnr_y"], abs=0.02)
    assert ours - plain == pytest.approx(card["psnr_y"] - card["bicubic"], abs=0.03)


def write_lossless(path: Path, picture: Pixels) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "bgr0"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        output.mux(stream.encode(None))
