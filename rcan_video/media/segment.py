"""One segment: a run of frames encoded into a file of its own, that can be joined to others packet by packet.

The file is an MP4 (a MOV for codecs that only that takes) with the video alone, closed at both ends, its PTS counted
from its first frame in the source's ticks.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt

from rcan_video.errors import VerificationError
from rcan_video.frames import Frame
from rcan_video.media.codecs import VideoTarget
from rcan_video.media.encoder import VideoEncoder
from rcan_video.media.files import MP4_FAMILY, open_output, output_errors
from rcan_video.media.output import container_options
from rcan_video.video import VideoInfo

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# The encoders whose output was joined and compared, frame by frame, and the container of their segments.
_CONTAINERS: Mapping[str, str] = {
    "libx264": "mp4",
    "libx265": "mp4",
    "libsvtav1": "mp4",
    "libvpx-vp9": "mp4",
    "ffv1": "mp4",
    "prores_ks": "mov",
}
# What makes the parameter sets of all segments equal: x264 writes the quality into them, x265 the number of threads.
_STITCHABLE: Mapping[str, tuple[str, str]] = {
    "libx264": ("x264-params", "stitchable=1"),
    "libx265": ("x265-params", "info=0"),
}
# More than any encoder holds back for reordering.
_DELAY = 16


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a segment holds: ``frames``, the PTS of the ``first`` one and the ``end`` of the last, in ticks of the
    source; the file's ``size`` in bytes; and ``headers``, a hash of the parameter sets, which joined segments share."""

    frames: int
    first: int
    end: int
    size: int
    headers: str


def why_whole(
    target: VideoTarget, container: str, info: VideoInfo, times: npt.NDArray[np.int64] | None = None
) -> str | None:
    """Why a video that is encoded as ``target`` for ``container`` is no sum of segments, or None where it is one.
    ``times`` are the PTS of its frames, ascending, where they are known."""
    if target.codec not in _CONTAINERS:
        return f"{target.codec} was not tried in segments"
    if container not in {*MP4_FAMILY, "matroska", "webm"}:
        return f"{container} was not tried with segments"
    if target.codec == "prores_ks" and container == "matroska":
        return "ProRes loses its profile where segments are joined in Matroska"
    if target.codec == "libvpx-vp9" and target.alpha:
        return "the alpha of VP9 lies beside its packets, which MP4 does not keep"
    # MP4 has 31 bits for how far a packet's DTS lies before its PTS.
    span = 2 * _DELAY
    reach = span * _gap(info)
    if times is not None and len(times):
        reach = int(np.max(times[span:] - times[:-span], initial=times[:span][-1] - times[0]))
    if info.time_base.denominator >= 1 << 31 or reach + _DELAY * _gap(info) >= 1 << 31:
        return "the time base is too fine for MP4"
    return None


def suffix(target: VideoTarget) -> str:
    """The ending of a segment's name."""
    return _CONTAINERS[target.codec]


def segment_encoder(output: OutputContainer, target: VideoTarget, info: VideoInfo) -> VideoEncoder:
    """The encoder of segments, which gives all of them the same parameter sets, as a new stream of ``output``.

    Raises OutputError and UsageError as ``VideoEncoder``.
    """
    options = dict(target.options)
    if target.codec in _STITCHABLE:
        key, value = _STITCHABLE[target.codec]
        options[key] = f"{options[key]}:{value}" if key in options else value
    return VideoEncoder(output, target, info, info.time_base, options)


class SegmentWriter:
    """Encodes a run of frames into the file at ``path``, which must not be anybody else's.

    ``finish`` makes the file whole; leaving the ``with`` without it leaves a part, which is the caller's to remove.
    Raises OutputError and UsageError as ``VideoEncoder``, OutputError on writing.
    """

    def __init__(self, path: Path, target: VideoTarget, info: VideoInfo, name: str) -> None:
        self._path = path
        self._name = name
        self._fed: list[int] = []  # PTS from the first frame's
        self._packets = 0
        self._first: int | None = None
        self._end = 0
        self._gap = _gap(info)
        container = container_options(info.time_base, piped=False) | {"use_editlist": "0"}
        self._file = open_output(path, format=_CONTAINERS[target.codec], options=container, stop=threading.Event())
        try:
            self._encoder = segment_encoder(self._file, target, info)
            with output_errors(name):
                self._file.start_encoding()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, frame: Frame) -> None:
        if self._first is None:
            self._first = frame.pts
        self._fed.append(frame.pts - self._first)
        self._end = frame.pts + frame.duration
        with output_errors(self._name):
            self._mux(self._encoder.encode(frame, self._fed[-1], frame.duration))

    def finish(self) -> Encoded:
        """Flush the encoder and close the file."""
        assert self._first is not None, "a segment without frames has no file"
        with output_errors(self._name):
            self._mux(self._encoder.flush(len(self._fed)))
            headers = self._encoder.stream.codec_context.extradata or b""
            self._file.close()
            size = self._path.stat().st_size
        if self._packets != len(self._fed):
            raise VerificationError(
                f"{len(self._fed)} frames of {self._name} went into the encoder and {self._packets} came back: "
                "please report this"
            )
        digest = hashlib.blake2b(headers, digest_size=16).hexdigest()
        return Encoded(len(self._fed), self._first, self._end, size, digest)

    def close(self) -> None:
        with contextlib.suppress(av.FFmpegError, OSError):
            self._file.close()

    def _mux(self, packets: Iterable[Packet[VideoStream]]) -> None:
        """The DTS of encoders are of no use where segments meet: these are legal in a file alone, the joined file gets
        others."""
        for packet in packets:
            place = self._packets - _DELAY
            packet.dts = self._fed[place] if place >= 0 else place * self._gap
            self._packets += 1
            self._file.mux(packet)


def _gap(info: VideoInfo) -> int:
    """Ticks from frame to frame at the nominal rate."""
    return max(1, round(1 / (info.rate * info.time_base)))
