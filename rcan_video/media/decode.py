"""The frames of an input, or of a part of it, in presentation order, drained to the last one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING, Self

from av.video.reformatter import VideoReformatter

from rcan_video.errors import InputError, InputHangs
from rcan_video.frames import Frame, Mark, Plane, digest
from rcan_video.media.damage import Damage
from rcan_video.media.decoder import VideoDecoder
from rcan_video.media.deinterlace import Stamped
from rcan_video.media.files import PIPE, shown
from rcan_video.media.hwdecode import HardwareDecoding
from rcan_video.media.index import Index
from rcan_video.media.packets import LAG, Relay
from rcan_video.media.picture import planes_of
from rcan_video.options import Deinterlace, HwAccel, OnCorrupt
from rcan_video.video import VideoInfo

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame


class Source:
    """An input, opened once: ``info`` says what it is, ``frames()`` gives its frames from first to last.

    ``start`` and ``duration`` (seconds, counted from the first frame) choose a part of it; ``deinterlace`` is done
    before anything is described or cut, so that a part is what it would be in the whole. ``hwaccel`` says what decodes
    where it can (``media/hwdecode.py``). An input that cannot be read twice (a pipe; ``stop`` ends it) hands the
    packets of its other streams to whoever ``listen``s, as it meets them. With an ``index`` of the file, what lies
    before the part, or before the place to ``resume`` at, is not decoded where that changes nothing. Not for two
    threads at once, but it may be handed from one to another.

    ``origin`` is the PTS of the input's first frame, ``end`` the one that the part ends before, in ticks, None where it
    has no end of its own. ``damage`` counts what could not be decoded; with ``on_corrupt`` "fail" the first of it ends
    the reading.

    Raises InputError: nothing to open, no video, no frame that can be decoded, no frame in the chosen part, damage
    where that is to fail. Raises DeviceError where the GPU that decodes fails on the way.
    """

    info: VideoInfo

    def __init__(
        self,
        path: str,
        *,
        index: Index | None = None,
        start: Fraction | None = None,
        duration: Fraction | None = None,
        deinterlace: Deinterlace = "off",
        hwaccel: HwAccel = "none",
        on_corrupt: OnCorrupt = "skip",
        max_pixels: int | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._path = path
        self._index = index
        self._part = (start or Fraction(0), duration)
        self.damage = Damage(path, on_corrupt)
        self._hardware = HardwareDecoding(hwaccel, path)
        self._relay = Relay()
        self._new_decoder = partial(
            VideoDecoder,
            path,
            self._hardware,
            self.damage,
            self._relay,
            deinterlace=deinterlace,
            max_pixels=max_pixels,
            stop=stop,
        )
        self._reformatter = VideoReformatter()
        self._opaque = False
        self._landed: tuple[int, int] | None = None  # damaged packets and frames before the place resumed at
        self._open()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, InputHangs):
            self.close()

    def close(self) -> None:
        self._decoder.close()

    @property
    def container(self) -> InputContainer:
        """What the streams beside the video are told by."""
        return self._decoder.container

    @property
    def alive(self) -> float:
        """When the last packet came, by ``time.monotonic``."""
        return self._decoder.alive

    @property
    def decoded(self) -> int:
        """How many frames of the part were given out: the place of the next one."""
        return self._decoder.given

    def listen(self, on_packet: Callable[[Packet[Stream]], None]) -> None:
        """Send the packets of other streams to ``on_packet``, those met so far first."""
        self._relay.listen(on_packet)

    def first(self) -> Frame:
        """The first frame that ``frames`` will give."""
        raw, pts, duration = self._first
        return Frame(self._planes(raw), pts, duration, self.decoded)

    def frames(self) -> Iterator[Frame]:
        """Every frame of the chosen part, or of what follows the place to resume at, once. Call it once for each.

        Raises InputError where reading fails, or where the picture changes its size or layout on the way.
        """
        self._used = True
        for raw, pts, duration in self._decoder.to_the_end(chain([self._first], self._stamped)):
            if self.end is not None and pts >= self.end:
                if self._path == PIPE:  # sound may lie behind the pictures that it belongs to
                    self._decoder.read_past(self.end + ceil(LAG / self._decoder.time_base))
                return
            if raw.is_corrupt and self._decoder.settled:
                self.damage.frame(self.decoded)
            if self._landed is not None and self._landed != (self.damage.packets, self.damage.frames):
                yield from self._from_the_top(self.decoded)
                return
            frame = Frame(self._planes(raw), pts, duration, self.decoded)
            self._decoder.given += 1
            yield frame

    def _from_the_top(self, place: int) -> Iterator[Frame]:
        """Frames from ``place`` on, where damage was met behind a landing: what a decoder shows for what is missing
        hangs on all that it has decoded before, and so does what counts as damaged."""
        self._rewind()
        yield from (frame for frame in self.frames() if frame.index >= place)

    def restart(self) -> None:
        """Let ``frames`` begin with the first one, wherever it was before."""
        if self._used:
            self._rewind()

    @property
    def seekable(self) -> bool:
        """Whether ``resume`` may be tried."""
        return self._index is not None and self._index.seekable

    def mark(self, frame: Frame) -> Mark:
        """The place of ``frame``, which ``frames`` gave last."""
        return Mark(frame.index, frame.pts, digest(frame.planes), self.damage.packets, self.damage.frames)

    def resume(self, mark: Mark) -> bool:
        """Let ``frames`` begin with the frame of ``mark``, without decoding all that lies before; for a ``seekable``
        input.

        False where that gave another frame than reading from the top did: then ``frames`` begins with the first one.
        """
        first = self._land(mark.pts)
        if first is None or first[1] != mark.pts or digest(self._planes(first[0])) != mark.digest:
            self._rewind()
            return False
        self._first = first
        self._decoder.given = mark.index
        self._landed = (mark.damaged_packets, mark.damaged_frames)
        self._used = True
        self.damage.packets, self.damage.frames = self._landed
        return True

    def leave_alpha_out(self) -> None:
        """Give all frames without their alpha plane: it would be computed for nothing."""
        self._opaque = True
        self.info = replace(self.info, layout=replace(self.info.layout, alpha=False))

    def first_notices(self) -> list[str]:
        """What is missing and what is done to the frames, in sentences."""
        return [*self.damage.first_notices(), *self._hardware.notices(), *self._decoder.fields.notices()]

    def notices(self) -> list[str]:
        """What had to be repaired, in sentences; complete once the frames are used up."""
        found = self._decoder.fields.late_notices(self.decoded)
        found += self.damage.notices(self.decoded, self.info.frames)
        start, duration = self._part
        if self._index is not None and not start and duration is None:
            silent = self._index.frames - self.decoded - self.damage.packets
            if silent > 0:
                found.append(
                    f"{silent} packets of {self._path} gave no frame, and no error: they are damaged, or come before "
                    "the first keyframe"
                )
        return found + self._decoder.notices()

    def _rewind(self) -> None:
        """Let ``frames`` begin with the first one again."""
        self._decoder.close()
        self._open()
        self._begin()

    def _open(self) -> None:
        self._decoder = self._new_decoder()
        self._stamped = self._decoder.frames()
        self._used = False  # whether ``frames`` would begin elsewhere than with the first one
        self.damage.packets = self.damage.frames = 0
        self._landed = None

    def _begin(self) -> None:
        start, duration = self._part
        first = next(self._stamped, None)
        if first is None:
            why = "its packets are damaged or encrypted" if self.damage else "it holds none"
            raise InputError(f"not one frame of {shown(self._path)} can be decoded: {why}")
        self.origin = first[1]
        wanted = self.origin + ceil(start / self._decoder.time_base)
        self._relay.start = wanted * self._decoder.time_base
        if first[1] < wanted:
            first = self._land(wanted)
        if first is None:
            raise InputError(f"{shown(self._path)} ends before --start {float(start):g} seconds")
        self._first = first
        self._decoder.fields.begin()
        self.end = None if duration is None else wanted + ceil(duration / self._decoder.time_base)
        if self.end is not None and first[1] >= self.end:
            raise InputError(
                f"{shown(self._path)} has no frame in the {float(duration or 0):g} s from --start {float(start):g} on: "
                "choose a longer --duration"
            )
        self.info = _limited(self._decoder.describe(first), start, duration)
        if self._opaque:
            self.leave_alpha_out()
        if self._index is not None and self._index.cut_off and self._reaches_beyond(self._index):
            self.damage.end()

    def _reaches_beyond(self, index: Index) -> bool:
        """Whether the chosen part would go on behind the last packet of the file, if that had any more."""
        if self.end is None or not len(index.times):
            return self.end is None
        return int(index.times[-1]) + 1 / (self.info.rate * self._decoder.time_base) < self.end

    def _land(self, wanted: int) -> Stamped | None:
        """The first frame that is shown at ``wanted`` or later: by a landing where the index knows one, else by
        decoding all that comes before it."""
        if self._index is not None and self._index.seekable:
            landed = self._decoder.land(self._index, wanted)
            if landed is not None:
                self._stamped = landed
            else:
                self._decoder.close()
                self._open()
        return next((stamped for stamped in self._stamped if stamped[1] >= wanted), None)

    def _planes(self, frame: VideoFrame) -> tuple[Plane, ...]:
        info = self.info
        if (frame.width, frame.height, frame.format.name) != (info.width, info.height, info.pix_fmt):
            raise InputError(
                f"the picture of {shown(self._path)} changes from {info.width}x{info.height} {info.pix_fmt} to "
                f"{frame.width}x{frame.height} {frame.format.name} at frame {self.decoded}: "
                "cut it there, or upscale the parts one by one with --start and --duration"
            )
        return planes_of(frame, info.layout, self._reformatter)


def probe(path: str) -> VideoInfo:
    """What the video at ``path`` is. Decodes one frame of it.

    Raises InputError.
    """
    with Source(path) as source:
        return source.info


def _limited(info: VideoInfo, start: Fraction, duration: Fraction | None) -> VideoInfo:
    """``info`` of the chosen part: its duration and estimated frames."""
    left = None if info.duration is None else max(info.duration - start, Fraction(0))
    if duration is not None:
        left = duration if left is None else min(left, duration)
    if left == info.duration:
        return info
    return replace(info, duration=left, frames=None if left is None else max(1, round(left * info.rate)))
