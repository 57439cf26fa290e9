"""The written file, read back: is it what was promised?

A ``Ledger`` notes the frames that were handed to the encoder and the packets of all other streams that were handed to
the muxer; ``verify`` compares them with what a reader finds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rcan_video.errors import InputError, OutputError, VerificationError
from rcan_video.media.files import MP4_FAMILY, open_input

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream

# Containers that keep a time for every packet of every stream, and what a packet is. The others count frames (AVI),
# have no times (elementary streams) or cut packets anew (MPEG-TS, of which the video's times alone are compared).
_WHOLE_PACKETS = MP4_FAMILY | {"matroska", "webm", "nut"}
_TIMED = _WHOLE_PACKETS | {"mpegts"}
# Matroska and WebM round to milliseconds, each time on its own.
_TOLERANCE = Fraction(2, 1000)


@dataclass(slots=True)
class Track:
    """One stream: packets, and seconds of the first PTS, the last PTS and the end of what is shown last."""

    kind: str
    packets: int = 0
    first: Fraction | None = None
    last: Fraction | None = None
    end: Fraction | None = None

    @property
    def rest(self) -> Fraction:
        """How long the last packet lasts."""
        return Fraction(0) if self.end is None or self.last is None else self.end - self.last

    def note(self, pts: int | None, duration: int | None, time_base: Fraction | None) -> None:
        """One more packet, or frame."""
        self.packets += 1
        if pts is None or not time_base:
            return
        at, end = pts * time_base, (pts + (duration or 0)) * time_base
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)
        self.end = end if self.end is None else max(self.end, end)


@dataclass(slots=True)
class Ledger:
    """What went into an output, by the index of its streams. The video that was upscaled is stream 0."""

    tracks: dict[int, Track] = field(default_factory=lambda: {0: Track("video")})

    @property
    def video(self) -> Track:
        return self.tracks[0]

    def note(self, packet: Packet[Stream]) -> None:
        """A packet of another stream. Empty ones are none: the encoder of FLAC ends with what belongs in the header."""
        if not packet.size:
            return
        track = self.tracks.setdefault(packet.stream_index, Track(packet.stream.type))
        track.note(packet.pts, packet.duration, packet.time_base)


def verify(path: Path, name: str, container: str, ledger: Ledger) -> None:
    """Compare the file at ``path`` with what went into it: the number of frames; first PTS, last PTS and end of the
    video and of every audio stream, to 2 ms.

    Raises VerificationError, or OutputError where the file has gone, speaking of the file as ``name``.
    """
    tracks = _read(path, name)
    video = next((track for track in tracks if track.kind == "video"), None)
    if video is None:
        raise VerificationError(f"{name} holds no video: please report this")
    if video.packets != ledger.video.packets:
        raise VerificationError(
            f"{name} holds {video.packets} frames, but {ledger.video.packets} were upscaled: please report this"
        )
    if container not in _TIMED:
        return
    # Muxers may move all streams together: so that none begins before zero, or to give readers time (MPEG-TS).
    moved = (video.first or Fraction(0)) - (ledger.video.first or Fraction(0))
    ends = ("end",) if container in _WHOLE_PACKETS - {"nut"} else ()  # NUT knows no durations
    _compare(name, "the video", ledger.video, video, moved, ("first", "last", *ends))
    if container not in _WHOLE_PACKETS:
        return
    # By their order among their kind: muxers leave out streams without packets, and add some (timecode, chapters).
    wanted = [track for _, track in sorted(ledger.tracks.items()) if track.kind == "audio"]
    found = [track for track in tracks if track.kind == "audio"]
    if len(found) != len(wanted):
        raise VerificationError(f"{name} holds {len(found)} audio streams, not {len(wanted)}: please report this")
    # The MP4 family cuts PCM into packets of its own, but knows what is left of a last packet that was cut.
    last = "end" if container in MP4_FAMILY else "last"
    for number, (written, read) in enumerate(zip(wanted, found, strict=True), 1):
        _compare(name, f"audio stream {number}", written, read, moved, ("first", last))


def _compare(name: str, stream: str, written: Track, read: Track, moved: Fraction, places: tuple[str, ...]) -> None:
    for what in places:
        wanted, found = getattr(written, what), getattr(read, what)
        if wanted is None:
            continue
        # The last packet of sound may hold less than a reader takes it to hold (MP3).
        late = read.rest if what == "end" and read.kind == "audio" else Fraction(0)
        if found is None or not -_TOLERANCE <= found - wanted - moved <= late + _TOLERANCE:
            place = {"first": "begins", "last": "has its last packet", "end": "ends"}[what]
            there = "nowhere" if found is None else f"at {float(found):.3f} s"
            raise VerificationError(
                f"{stream} of {name} {place} {there}, where {float(wanted + moved):.3f} s was written: "
                "please report this"
            )


def _read(path: Path, name: str) -> list[Track]:
    """The streams of a file that have packets, in order."""
    try:
        file = open_input(str(path))
    except InputError as error:
        if not path.exists():
            raise OutputError(f"{name} cannot be written: its folder or the unfinished file in it is gone") from error
        raise VerificationError(f"{name} cannot be read back: please report this") from error
    with file:
        tracks = {stream.index: Track(stream.type) for stream in file.streams}
        for packet in file.demux():
            # Pictures that an edit list hides are lost; sound that it hides only starts a decoder up.
            hidden = packet.is_discard and packet.stream.type == "video"
            if packet.size and not hidden:
                tracks[packet.stream_index].note(packet.pts, packet.duration, packet.time_base)
        video = next(iter(file.streams.video), None)
        for stream in file.streams:
            # There, durations of packets are those of decoding, in which frames may have another order, and those of
            # damaged sound are not known to the reader.
            unsure = stream is video or (stream.type == "audio" and not tracks[stream.index].rest)
            if unsure and stream.duration and stream.time_base and "mp4" in file.format.name:
                end = (stream.start_time or 0) + stream.duration
                tracks[stream.index].end = end * Fraction(stream.time_base)
        return [track for _, track in sorted(tracks.items()) if track.packets]
