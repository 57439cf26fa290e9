"""Clips made in code, and plain readers to judge what was written: PyAV alone, nothing of ``rcan_video.media``.

::

    clip = make_clip(tmp_path / "in.mp4", frames=12, audio=2, tags=ColorTags(matrix=1), pts=[0, 1, 5, 6])
    for time, planes in read_video(clip): ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
from av.codec.context import Flags
from numpy.typing import NDArray

from rcan_video.frames import ColorTags, PlaneLayout

Planes = tuple[NDArray[Any], ...]
Kind = Literal["video", "audio", "subtitle"]

SHARED = Path(__file__).parents[2] / "shared"
AUDIO_RATE = 48000

# Both encoders print banners to stderr unless told otherwise.
os.environ.setdefault("SVT_LOG", "1")
_QUIET = {"libx265": {"x265-params": "log-level=none"}}


def shared(name: str) -> Path:
    """A file of the shared data folder beside the repository; skips the test where that is absent."""
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"no shared test data here ({Path(*path.parts[-3:])})")
    return path


def needs_encoder(name: str) -> None:
    """Skip the test where FFmpeg was built without this encoder."""
    try:
        av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this FFmpeg has no encoder {name}")


def picture(layout: PlaneLayout, size: tuple[int, int], index: int) -> Planes:
    """Frame ``index`` of the default clip: ramps that move, with texture; legal codes, and no two frames alike."""
    top = 1 << (layout.depth - 8)
    dtype = np.uint8 if layout.depth == 8 else np.uint16
    rng = np.random.default_rng(index)
    planes = []
    for k, (h, w) in enumerate(layout.shapes(*size)):
        y, x = np.mgrid[:h, :w]
        ramp = 40 + (x * (3 - k) + y * (1 + k) + 5 * index) % 160
        planes.append(((ramp + rng.integers(0, 20, (h, w))) * top).astype(dtype))
    return tuple(planes)


def to_frame(planes: Sequence[NDArray[Any]], pix_fmt: str, size: tuple[int, int]) -> av.VideoFrame:
    """A frame of a planar format with these samples; any size."""
    frame = av.VideoFrame(*size, pix_fmt)
    for plane, data in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, dtype=np.uint8).reshape(plane.height, plane.line_size)
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(data.shape[0], -1)
        rows[: raw.shape[0], : raw.shape[1]] = raw
    return frame


def to_planes(frame: av.VideoFrame) -> Planes:
    """The samples of a frame, copied: (H, W) uint8 or uint16 for planar formats, (H, bytes) for packed ones."""
    layout = PlaneLayout.parse(frame.format.name)
    out = []
    for k, plane in enumerate(frame.planes):
        rows = np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)
        if layout is None:
            out.append(rows.copy())
            continue
        height, width = layout.shapes(frame.width, frame.height)[k]
        samples = rows[:height, : width * layout.sample_bytes]
        out.append(samples.copy().view(np.uint8 if layout.depth == 8 else np.uint16))
    return tuple(out)


def make_clip(
    path: Path,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    frames: int = 12,
    rate: Fraction | int = 25,
    time_base: Fraction | None = None,
    pts: Sequence[int] | None = None,
    last_duration: int | None = None,
    audio: int = 0,
    audio_codec: str = "aac",
    audio_start: Fraction | int = 0,
    languages: Sequence[str] = ("eng", "deu", "fra"),
    tags: ColorTags | None = None,
    sar: Fraction | None = None,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    format: str | None = None,
    metadata: Mapping[str, str] | None = None,
    draw: Callable[[int], av.VideoFrame] | None = None,
) -> Path:
    """Write a clip and return its path.

    ``pts`` (ticks of ``time_base``, which is 1/rate unless given) makes the frame rate variable and says how many
    frames there are. ``audio`` is the number of tracks: sines of 220, 440, ... Hz that last as long as the video and
    begin at ``audio_start`` seconds. ``tags.siting`` is left to ``options`` (``chroma_sample_location``).
    ``draw`` gives frame k; it is converted to ``pix_fmt`` where it has another.
    """
    rate = Fraction(rate)
    time_base = time_base or 1 / rate
    step = max(1, round(1 / (rate * time_base)))
    times = list(pts) if pts is not None else [k * step for k in range(frames)]
    layout = PlaneLayout.parse(pix_fmt) or PlaneLayout("rgb")
    with av.open(f"file:{path}", "w", format=format, container_options=dict(container_options or {})) as output:
        output.metadata.update(metadata or {})
        stream: Any = output.add_stream(codec, rate=rate, options={**_QUIET.get(codec, {}), **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        context = stream.codec_context
        stream.time_base = context.time_base = time_base
        if sar is not None:
            context.sample_aspect_ratio = sar
        if tags is not None:
            context.colorspace, context.color_range = tags.matrix, tags.range
            context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        context.flags |= Flags.frame_duration
        tracks = []
        for k in range(audio):
            track: Any = output.add_stream(audio_codec, rate=AUDIO_RATE)
            track.codec_context.layout = "stereo"
            track.metadata["language"] = languages[k % len(languages)]
            tracks.append(track)
        written = 0
        total = round((times[-1] + step - times[0]) * time_base * AUDIO_RATE)
        for k, at in enumerate(times):
            frame = draw(k) if draw is not None else to_frame(picture(layout, size, k), layout.pix_fmt, size)
            if frame.format.name != pix_fmt:
                frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = at, time_base
            following = times[k + 1] - at if k + 1 < len(times) else last_duration or step
            frame.duration = max(1, following)
            output.mux(stream.encode(frame))
            until = total if k + 1 == len(times) else min(total, round((at - times[0]) * time_base * AUDIO_RATE))
            for number, track in enumerate(tracks):
                _sing(output, track, 220 * (number + 1), written, until, Fraction(audio_start))
            written = max(written, until)
        rest = stream.encode(None)
        if codec == "libx265" and len(times) <= 2:
            for packet in rest:  # it makes up the DTS of streams this short (x265 issue 781)
                packet.dts = packet.pts
        output.mux(rest)
        for track in tracks:
            output.mux(track.encode(None))
    return path


def _sing(output: Any, track: Any, hertz: int, begin: int, end: int, start: Fraction) -> None:
    """Samples ``begin`` to ``end`` of a sine, in stereo."""
    if end <= begin:
        return
    wave = np.sin(2 * np.pi * hertz * np.arange(begin, end) / AUDIO_RATE) * 12000
    samples = np.repeat(wave.astype(np.int16), 2)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
    frame.sample_rate, frame.time_base = AUDIO_RATE, Fraction(1, AUDIO_RATE)
    frame.pts = begin + round(start * AUDIO_RATE)
    output.mux(track.encode(frame))


@dataclass(frozen=True)
class PacketRead:
    """What a packet in a file says. ``time`` (its PTS) and ``duration`` are in seconds."""

    stream: int
    time: Fraction | None
    duration: Fraction
    data: bytes
    keyframe: bool


def read_video(path: Path, *, format: str | None = None) -> list[tuple[Fraction | None, Planes]]:
    """(PTS in seconds, planes) of every frame, decoded from the top in one thread."""
    found = []
    with av.open(f"file:{path}", format=format) as file:
        stream = file.streams.best("video")
        assert stream is not None
        for frame in file.decode(stream):
            assert isinstance(frame, av.VideoFrame)
            time = None if frame.pts is None else frame.pts * Fraction(frame.time_base)
            found.append((time, to_planes(frame)))
    return found


def read_packets(path: Path, kind: Kind, track: int = 0) -> list[PacketRead]:
    """Packets of the ``track``-th stream of a kind, in the order of the file."""
    with av.open(f"file:{path}") as file:
        stream = [s for s in file.streams if s.type == kind][track]
        return [
            PacketRead(
                stream=packet.stream_index,
                time=None if packet.pts is None else packet.pts * Fraction(packet.time_base),
                duration=(packet.duration or 0) * Fraction(packet.time_base),
                data=bytes(packet),
                keyframe=packet.is_keyframe,
            )
            for packet in file.demux(stream)
            if packet.size
        ]


def damage(clip: Path, number: int, filler: bytes = b"\xff") -> Path:
    """``clip`` with the payload of one video packet overwritten."""
    data = bytearray(clip.read_bytes())
    packet = read_packets(clip, "video")[number].data
    at = data.find(packet)
    assert at > 0
    data[at : at + len(packet)] = filler * len(packet)
    damaged = clip.with_name(f"damaged{number}{clip.suffix}")
    damaged.write_bytes(data)
    return damaged
