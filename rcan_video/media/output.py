"""The container that people get: the video, its passengers, chapters and tags, and a ledger of what went in."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import av

from rcan_video.errors import OutputError
from rcan_video.media.files import MP4_FAMILY, elsewhere, open_output, output_errors
from rcan_video.media.fit import StreamPlan, fit, holds_chapters
from rcan_video.media.packets import FilePackets, PipePackets, Window
from rcan_video.media.streams import Passengers
from rcan_video.media.verify import Ledger
from rcan_video.options import StreamOptions
from rcan_video.video import Chapter, VideoInfo

if TYPE_CHECKING:
    from av.container.core import Chapter as AvChapter
    from av.packet import Packet
    from av.video.stream import VideoStream

_FINE = 96_000  # ticks per second of edit lists, or as close to it as the source's ticks come

_NOTICED = Fraction(45, 1000)  # seconds between sound and picture that people notice (ITU-R BT.1359)


class Output:
    """An output for the video of ``info``: ``container`` is open, ``begin`` writes its header once the caller has added
    the video's stream, as the first.

    ``path`` None is standard output. One thread at a time. ``finish`` makes the file complete; leaving the ``with``
    without it leaves a part, which is the caller's to remove.

    ``plans`` and ``losses`` say what becomes of the other streams, from ``begin`` on. Raises OutputError.
    """

    def __init__(
        self,
        path: Path | None,
        info: VideoInfo,
        *,
        streams: StreamOptions | None = None,
        format: str | None = None,
        window: Window | None = None,
        packets: FilePackets | PipePackets | None = None,
        name: str,
        stop: threading.Event,
    ) -> None:
        self.name = name
        self.info = info
        self._streams = streams or StreamOptions()
        self._packets = packets
        self._passengers: Passengers | None = None
        self.ledger = Ledger()
        self.plans: tuple[StreamPlan, ...] = ()
        self.losses: list[str] = []
        options = container_options(info.time_base, piped=path is None)
        self.container = open_output(path, format=format, options=options, stop=stop)
        self.format: str = self.container.format.name
        if self.format == "yuv4mpegpipe":  # more than 8 bits are an extension there, which all readers know
            self.container.container_options["strict"] = "unofficial"
        self._window = self._from_zero(window or Window())

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shift(self) -> int:
        """Ticks of the source that are added to every PTS of the video."""
        return round(self._window.shift / self.info.time_base)

    @property
    def from_start(self) -> bool:
        """Whether the video begins with the source's first frame."""
        return self._window.start is None

    def begin(self, codec: str) -> None:
        """Take the passengers, chapters and tags on board, and write the header. ``codec`` is the video's, for
        messages."""
        info = self.info
        if self._packets is not None:
            self._board(self._packets)
        if holds_chapters(self.format):
            self.container.set_chapters(_chapters(info.chapters, self._window))
        elif info.chapters:
            self.losses.append(f"{self.format} holds no chapters: {len(info.chapters)} are left out")
        self.container.metadata.update(info.tags)
        try:
            self.container.start_encoding()
        except (
            av.error.ArgumentError,
            av.error.InvalidDataError,
            av.error.PermissionError,
        ) as error:  # muxers say no more than that, and mean one of the streams
            offered = ", ".join([codec, *(f"{p.info.kind} {p.codec}" for p in self.plans if p.codec)])
            raise OutputError(
                f"{self.name} cannot be written: {self.format} refuses {offered}; choose another "
                f"{elsewhere(self.format)}, or --codec and --audio-codec"
            ) from error
        except (av.FFmpegError, ValueError, OSError):
            with output_errors(self.name):
                raise

    def mux(self, packets: Iterable[Packet[VideoStream]]) -> None:
        """Write packets of the video, each after the others' that belong before it."""
        for packet in packets:
            if self._passengers is not None and packet.dts is not None:
                self._passengers.mux_until(packet.dts * Fraction(packet.time_base))
            self.container.mux(packet)

    def finish(self) -> None:
        """Write what is left of the passengers, and the trailer. Wrap it in ``output_errors``."""
        if self._passengers is not None:
            self._passengers.mux_until(None)
        self.container.close()

    def close(self) -> None:
        """Let go of everything. Without ``finish`` before, nobody wants the file, nor to hear that its end cannot be
        written: that would hide the error that brought us here."""
        if self._packets is not None:
            self._packets.close()
        with contextlib.suppress(av.FFmpegError, OSError):
            self.container.close()

    def _from_zero(self, window: Window) -> Window:
        """``window``, moved by ticks of the video so that what begins first begins at zero: in AVI, which has no start
        times, and in the MP4 family what comes before zero, which its edit lists hide. That is right only for what
        starts a decoder up."""
        if self.format not in MP4_FAMILY | {"avi"} or window.start is not None:
            return window
        tick = self.info.time_base
        first = min([self.info.start * tick, *self._sounds(window).values()])
        if first > 0 and self.format != "avi":
            return window
        return replace(window, shift=ceil(-first / tick) * tick)

    def _sounds(self, window: Window) -> dict[int, Fraction]:
        """When each audio stream that is kept begins, in seconds of the output, by its index in the source."""
        sounds = self.info.of_kind("audio") if self._streams.audio else ()
        return {
            sound.index: max(sound.start, window.start or sound.start) + window.shift
            for sound in sounds
            if sound.start is not None
        }

    def _out_of_sync(self) -> list[str]:
        """Sound that does not begin at its time beside the pictures, in sentences: AVI and MXF have no start times."""
        picture = self.info.start * self.info.time_base + self._window.shift
        if self.format == "avi":
            picture = Fraction(0)  # the first one stands there until the second comes at its time
        return [
            f"{self.format} stores no start times: audio stream {index} comes {float(abs(start - picture)):.3f} s too "
            f"{'early' if start > picture else 'late'}; choose .mkv or .mp4"
            for index, start in self._sounds(self._window).items()
            if abs(start - picture) > _NOTICED
        ]

    def _board(self, packets: FilePackets | PipePackets) -> None:
        """Decide what becomes of the other streams, and take on board those that stay."""
        self.plans = fit(
            packets.container.streams,
            self.info.others,
            self.format,
            self._streams,
            chapters=bool(self.info.chapters),
            pipe=isinstance(packets, PipePackets),
            from_start=self.from_start,
        )
        self._passengers = Passengers(
            self.container, self.ledger, packets, self.plans, self._window, self._streams.audio_bitrate
        )
        if self.format in ("avi", "mxf"):
            self.losses += self._out_of_sync()


def _chapters(chapters: Sequence[Chapter], window: Window) -> list[AvChapter]:
    """Those that begin before the end of the window and end after its start, as PyAV takes them."""
    kept = [
        c
        for c in chapters
        if (window.end is None or c.start < window.end) and (window.start is None or c.end > window.start)
    ]
    tick = Fraction(1, 1_000_000)
    return [
        {
            "id": number,
            "start": round(max(c.start, window.start or c.start) / tick + window.shift / tick),
            "end": round(min(c.end, window.end or c.end) / tick + window.shift / tick),
            "time_base": tick,
            "metadata": dict(c.tags),
        }
        for number, c in enumerate(kept, 1)
    ]


def container_options(time_base: Fraction, *, piped: bool) -> dict[str, str]:
    """MP4 and MOV: count in the source's ticks, so that every PTS and the start survive exactly; into a pipe in
    fragments, since nobody can go back there. ``delay_moov``: the header waits for the first packets, which say what
    its edit lists need. Those count in fractions of the ticks where these are coarse: the sound begins by them, too."""
    options = {"movflags": "frag_keyframe+delay_moov+default_base_moof"} if piped else {}
    ticks = time_base.denominator
    if ticks < 1 << 31:
        options |= {"video_track_timescale": str(ticks), "movie_timescale": str(ticks * max(1, _FINE // ticks))}
    return options
