"""The compressed packets of one segment, cut out of a file so that a decoder elsewhere gives the same frames.

A parcel begins where a decoder would land for the segment (``Index.land``) and goes on for two frames behind its end:
the first of them is the mark at which the next segment begins, the second is what ``bwdif`` looks at for that one. It
travels as NUT, which keeps every PTS exactly.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.stream import Discard

from rcan_video.errors import InputError
from rcan_video.frames import Frame, digest
from rcan_video.media.alpha import alpha_decoder
from rcan_video.media.decode import Source
from rcan_video.media.files import open_input, reason
from rcan_video.media.index import Index
from rcan_video.media.join import decode_times
from rcan_video.media.packets import demux
from rcan_video.media.probe import best_video
from rcan_video.options import Deinterlace
from rcan_video.video import VideoInfo

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

# Decoders whose frames were compared after the journey. Not among them: what NUT has no name for (ProRes).
_CODECS = frozenset(
    {"av1", "ffv1", "h264", "hevc", "libdav1d", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9"}
)
# Bytes of a parcel. Where keyframes lie so far apart that it takes more, everybody would decode most of the file.
LARGEST = 256 << 20
_BEHIND = 2


@dataclass(frozen=True, slots=True)
class Parcel:
    """Segment ``number``: the frames from the PTS ``start`` on and before ``end`` (None: to the last), in ticks of
    ``time_base``, inside ``data`` (NUT), whose times count from ``shift``. Frames with a PTS in ``cut_off`` are not
    shown: an edit list says so."""

    number: int
    start: int
    end: int | None
    time_base: Fraction
    shift: int
    cut_off: frozenset[int]
    data: bytes


def why_not_cut(path: str, index: Index, info: VideoInfo, starts: Sequence[int]) -> str | None:
    """Why the segments that begin at ``starts`` cannot be cut out of the file, or None where they can."""
    if not index.seekable:
        return "the times of its packets cannot be trusted, so that it has to be decoded from the top"
    if info.codec not in _CODECS:
        return f"its codec, {info.codec}, was not tried in pieces"
    if info.codec == "h264" and "444" in info.pix_fmt:
        return "H.264 with 4:4:4 may hang on the first packet of the file"
    with open_input(path) as container:
        if alpha_decoder(best_video(container, path)) is not None:
            return "its transparency lies beside its packets"
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        first, last = index.span(start, end, _BEHIND)
        if index.size[first:last].sum() > LARGEST:
            return f"its keyframes lie so far apart that a segment takes more than {LARGEST >> 20} MiB of packets"
    return None


class Cutter:
    """Cuts parcels out of the file at ``path``. For one thread. Raises InputError."""

    def __init__(self, path: str, index: Index) -> None:
        self._path = path
        self._index = index
        self._open()

    def _open(self) -> None:
        self._container = open_input(self._path)
        self._stream = best_video(self._container, self._path)
        for stream in self._container.streams:
            if stream is not self._stream:
                stream.discard = Discard.all

    def close(self) -> None:
        self._container.close()

    def cut(self, number: int, start: int, end: int | None) -> Parcel:
        """The parcel of the frames from the PTS ``start`` on and before ``end``."""
        index = self._index
        try:
            packets = list(self._packets(start, end))
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{self._path} cannot be read further: {reason(error)}") from error
        hidden = index.hidden
        times = np.array([packet.pts for packet in packets], np.int64)
        dts = decode_times(times)  # those of the file may be missing, and no decoder needs them
        shift = int(min(times.min(), dts.min()))
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="nut", options={"avoid_negative_ts": "disabled"}) as output:
            stream = output.add_stream_from_template(self._stream, opaque=True)
            stream.time_base = index.time_base
            for packet, decoded in zip(packets, dts.tolist(), strict=True):
                packet.time_base = index.time_base
                packet.pts, packet.dts = cast("int", packet.pts) - shift, decoded - shift
                packet.stream = stream
                output.mux(packet)
        cut_off = frozenset(hidden[np.isin(hidden, times)].tolist())
        return Parcel(number, start, end, index.time_base, shift, cut_off, buffer.getvalue())

    def _packets(self, start: int, end: int | None) -> Iterator[Packet[VideoStream]]:
        """Those from the landing to the last that is needed, as the index has them."""
        index = self._index
        packets = index.land(self._container, self._stream, start)
        first_place, last = index.span(start, end, _BEHIND)
        if packets is None:
            self.close()
            self._open()
            if first_place:  # the container was at its end: a landing begins with the next keyframe there
                packets = index.land(self._container, self._stream, start)
                if packets is None:
                    self.close()
                    self._open()
        if packets is None:
            packets = demux(self._container, [self._stream])
        first = next((p for p in packets if p.size), None)
        place = -1
        if first is not None:
            found = np.flatnonzero((index.pts == first.pts) & (index.size == first.size))
            place = int(found[0]) if len(found) else -1
        for packet in chain([first], packets):
            if place >= last:
                return
            if packet is None or not packet.size:
                continue
            if place < 0 or (packet.pts, packet.size) != (index.pts[place], index.size[place]):
                break
            yield packet
            place += 1
        if place < last:
            raise InputError(f"{self._path} has changed while it was worked on: give it back as it was")


class ParcelSource(Source):
    """The frames of a parcel that lies at ``path``, with the PTS that they have in the file it was cut from. ``info``
    is that of the file's own frames.

    ``times`` are the PTS of those that belong to the segment, as far as they were given, and ``begin`` is the digest of
    the first. Raises InputError as ``Source``.
    """

    def __init__(
        self, path: Path, parcel: Parcel, info: VideoInfo, *, deinterlace: Deinterlace, max_pixels: int
    ) -> None:
        super().__init__(str(path), deinterlace=deinterlace, max_pixels=max_pixels)
        self._parcel = parcel
        self.times: list[int] = []
        self.begin = ""
        if self.info.layout.alpha and not info.layout.alpha:
            self.leave_alpha_out()
        found = (self.info.width, self.info.height, self.info.layout)
        if found != (info.width, info.height, info.layout):
            self.close()
            raise InputError(f"the picture changes from {info.width}x{info.height} to {found[0]}x{found[1]}")

    def frames(self) -> Iterator[Frame]:
        parcel = self._parcel
        unit = self.info.time_base / parcel.time_base
        for frame in super().frames():
            pts = int(frame.pts * unit) + parcel.shift
            if pts in parcel.cut_off:
                continue
            if pts >= parcel.start and (parcel.end is None or pts < parcel.end):
                self.begin = self.begin or digest(frame.planes)
                self.times.append(pts)
            yield replace(frame, pts=pts, duration=max(1, round(frame.duration * unit)))
