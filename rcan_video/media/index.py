"""Where everything lies in a file's video: one reading of its packets, nothing decoded.

It tells the frames to expect with their PTS, whether and where a decoder may land, and, as a digest, which file it is.
"""

from __future__ import annotations

import contextlib
import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.stream import Discard

from rcan_video.errors import InputError
from rcan_video.media.files import open_input, reason
from rcan_video.media.packets import demux
from rcan_video.media.probe import best_video, time_base
from rcan_video.media.whole import is_cut_off

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_NONE = np.iinfo(np.int64).min  # a time that a packet does not have
_KEY, _DISCARD = 1, 2

# Keyframes of lead-in before the one that a landing needs: H.264 with intra refresh withholds frames until it has
# recovered, up to the next keyframe.
_LEAD_IN = 1
# How many keyframes, going back, are tried where a seek does not land on the one that was asked for.
_TRIES = 4
# These containers search by DTS: asked for a PTS they land one group of pictures late.
_BY_DTS = frozenset({"mpegts", "mpeg"})
# Here FFmpeg's reader makes the times of packets up.
_NO_TIMES = frozenset({"avi"})


@dataclass(frozen=True, eq=False)
class Index:
    """Every packet of a file's video, in the order of the file: arrays of shape (packets,), int64.

    ``pts`` and ``dts`` are in ticks of ``time_base`` seconds, ``size`` in bytes, ``flags`` say which packets are
    keyframes and which an edit list cuts off. ``content`` is a hash of all that a decoder gets. ``cut_off``: the file
    ends earlier than it says itself.
    """

    pts: npt.NDArray[np.int64]
    dts: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    flags: npt.NDArray[np.int64]
    time_base: Fraction
    container: str
    file_bytes: int
    content: str
    cut_off: bool

    @cached_property
    def digest(self) -> str:
        """Which file it is: the same for the same packets at the same times, whatever its name and age. Sizes alone
        would not do: those of uncompressed and of many intermediate codecs are all equal."""
        found = hashlib.blake2b(f"{self.file_bytes} {self.time_base} {self.content}".encode(), digest_size=16)
        for column in (self.pts, self.dts, self.size, self.flags):
            found.update(column.astype("<i8").tobytes())
        return found.hexdigest()

    @cached_property
    def frames(self) -> int:
        """How many frames to expect: packets that no edit list cuts off. A forecast: damaged packets give no frame, and
        a stream that begins inside a group of pictures loses some."""
        return int((self.flags & _DISCARD == 0).sum())

    @cached_property
    def times(self) -> npt.NDArray[np.int64]:
        """PTS of the ``frames`` to expect, ascending; none where packets do not tell."""
        times = np.sort(self.pts[self.flags & _DISCARD == 0])
        return times[:0] if len(times) and times[0] == _NONE else times

    @cached_property
    def hidden(self) -> npt.NDArray[np.int64]:
        """PTS of the packets whose frames an edit list cuts off."""
        found: npt.NDArray[np.int64] = self.pts[self.flags & _DISCARD != 0]
        return found

    @cached_property
    def keyframes(self) -> npt.NDArray[np.int64]:
        """PTS of the keyframes, in the order of the file."""
        keyframes: npt.NDArray[np.int64] = self.pts[self.flags & _KEY != 0]
        return keyframes

    def between(self, start: int, end: int | None) -> npt.NDArray[np.int64]:
        """Those of ``times`` from ``start`` on and before ``end``, in ticks."""
        last = None if end is None else np.searchsorted(self.times, end)
        return self.times[np.searchsorted(self.times, start) : last]

    @cached_property
    def seekable(self) -> bool:
        """Whether a decoder that lands on a keyframe gives the frames and the PTS that it gives when it reads from the
        top. It does not where times are missing, repeated, out of order or made up."""
        known = self.dts != _NONE
        return bool(
            self.container not in _NO_TIMES
            and (self.pts != _NONE).all()
            and len(np.unique(self.pts)) == len(self.pts)
            and (np.diff(self.dts[known]) >= 0).all()
            and (np.diff(self.keyframes) > 0).all()
            and (self.dts[known] <= self.pts[known]).all()
        )

    def span(self, start: int, end: int | None, behind: int) -> tuple[int, int]:
        """The packets that a decoder needs for the frames from the PTS ``start`` on and before ``end`` (None: to the
        last), and for ``behind`` more: places in the order of the file, the second one exclusive."""
        place = np.flatnonzero(self.flags & _KEY)
        wanted = int(np.searchsorted(self.pts[place], start, side="right")) - 1 - _LEAD_IN
        first = int(place[wanted]) if wanted > 0 else 0
        following = [] if end is None else self.times[np.searchsorted(self.times, end) :][:behind].tolist()
        if len(following) < behind:
            return first, len(self.pts)
        return first, int(np.flatnonzero(self.pts <= following[-1])[-1]) + 1

    def check_unchanged(self, path: str) -> None:
        """Raises InputError where the file at ``path`` has another size than when it was indexed."""
        try:
            size = Path(path).stat().st_size
        except OSError as error:
            raise InputError(f"{path} has gone while it was worked on: {reason(error)}") from error
        if size != self.file_bytes:
            raise InputError(
                f"{path} has changed while it was worked on, from {self.file_bytes} to {size} bytes: give it back as "
                "it was and run the same command again, or begin again with --restart"
            )

    def land(self, container: InputContainer, stream: VideoStream, start: int) -> Iterator[Packet[VideoStream]] | None:
        """Packets of ``stream`` from a keyframe that lies well before the PTS ``start``, in ticks; None where the file
        has to be read from the top. Whatever the answer, ``container`` has moved.

        A keyframe counts only if the index has one of its very PTS and size: seeks land late, early, or inside a
        packet.
        """
        place = np.flatnonzero(self.flags & _KEY)
        keys = list(zip(self.pts[place].tolist(), self.dts[place].tolist(), self.size[place].tolist(), strict=True))
        number = {(pts, size): n for n, (pts, _, size) in enumerate(keys)}
        wanted = bisect_right([pts for pts, _, _ in keys], start) - 1 - _LEAD_IN
        if wanted <= 0 or not self.seekable:
            return None
        try:
            # Some decoders learn from the first packet of a file alone (x264 4:4:4 before build 151).
            first = next(p for p in demux(container, [stream]) if p.is_keyframe)
            with contextlib.suppress(av.FFmpegError):
                first.decode()
            for pts, dts, _ in reversed(keys[max(0, wanted - _TRIES + 1) : wanted + 1]):
                for time in (dts, pts) if self.container in _BY_DTS else (pts, dts):
                    if time == _NONE:
                        continue
                    container.seek(time, stream=stream, backward=True)
                    packets = demux(container, [stream])
                    packet = next((p for p in packets if p.is_keyframe and (p.pts, p.size) in number), None)
                    if packet is not None and number[cast("int", packet.pts), packet.size] <= wanted:
                        return chain([packet], packets)
        except (av.FFmpegError, OSError, StopIteration):
            pass
        return None


def read_index(path: str) -> Index:
    """Read all packets of the best video stream of the file at ``path``: about two seconds for each GB.

    Raises InputError.
    """
    pts, dts, size, flags = (array("q") for _ in range(4))
    with open_input(path) as container:
        video = best_video(container, path)
        for stream in container.streams:
            if stream is not video:
                stream.discard = Discard.all
        content = hashlib.blake2b(video.codec_context.extradata or b"", digest_size=16)
        try:
            for packet in demux(container, [video]):
                if packet.size:
                    content.update(packet)
                    pts.append(_NONE if packet.pts is None else packet.pts)
                    dts.append(_NONE if packet.dts is None else packet.dts)
                    size.append(packet.size)
                    flags.append(_KEY * packet.is_keyframe | _DISCARD * packet.is_discard)
        except av.error.InvalidDataError:  # damaged: the decoder will say so
            pass
        except (av.FFmpegError, OSError) as error:
            raise InputError(f"{path} cannot be read: {reason(error)}") from error
        try:
            cut_off = is_cut_off(container, path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {reason(error)}") from error
        return Index(
            pts=np.frombuffer(pts, np.int64),
            dts=np.frombuffer(dts, np.int64),
            size=np.frombuffer(size, np.int64),
            flags=np.frombuffer(flags, np.int64),
            time_base=time_base(video),
            container=container.format.name,
            file_bytes=Path(path).stat().st_size,
            content=content.hexdigest(),
            cut_off=cut_off,
        )
