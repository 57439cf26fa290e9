"""The written file, read back: is it what was promised?"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from av.stream import Discard

from rcan_video.errors import InputError, OutputError, VerificationError
from rcan_video.media.files import open_input

# Containers that keep a time for every frame. The others count frames (AVI) or have no times (elementary streams).
_TIMED = frozenset({"mp4", "mov", "matroska", "webm", "nut", "mpegts"})
# Matroska and WebM round to milliseconds, each time on its own.
_TOLERANCE = Fraction(2, 1000)


def verify(path: Path, name: str, container: str, frames: int, span: Fraction) -> None:
    """Compare the video in ``path`` with the number of frames that went in and the seconds from first to last PTS.

    Raises VerificationError, or OutputError where the file has gone, speaking of the file as ``name``.
    """
    try:
        file = open_input(str(path))
    except InputError as error:
        if not path.exists():
            raise OutputError(
                f"{name} cannot be written: its folder or the unfinished file in it was removed"
            ) from error
        raise VerificationError(f"{name} cannot be read back: please report this") from error
    with file:
        stream = next(iter(file.streams.video), None)
        if stream is None:
            raise VerificationError(f"{name} holds no video: please report this")
        for other in file.streams:
            if other is not stream:
                other.discard = Discard.all
        packets = [packet.pts for packet in file.demux(stream) if packet.size]
    if len(packets) != frames:
        raise VerificationError(f"{name} holds {len(packets)} frames, but {frames} were upscaled: please report this")
    times = [pts for pts in packets if pts is not None]
    if container in _TIMED and times and stream.time_base:
        written = Fraction(max(times) - min(times)) * Fraction(stream.time_base)
        if abs(written - span) > _TOLERANCE:
            raise VerificationError(
                f"{name} lasts {float(written):.3f} s from its first to its last frame, the input "
                f"{float(span):.3f} s: please report this"
            )
