"""The streams that travel beside the video: read, checked against the container, copied or re-encoded."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
from av.codec.codec import UnknownCodecError
from av.stream import Discard

from rcan_video.errors import OutputError
from rcan_video.frames import StreamInfo
from rcan_video.media.files import open_input, reason

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the input that is kept, in seconds of its own clock, and what is added to every time."""

    start: Fraction | None = None
    end: Fraction | None = None
    shift: Fraction = Fraction(0)

    def holds(self, time: Fraction) -> bool:
        return (self.start is None or time >= self.start) and (self.end is None or time < self.end)


class FilePackets:
    """Packets of some streams of a file, from a container of its own: read at the pace of whoever asks."""

    def __init__(self, path: str, indices: Sequence[int], window: Window) -> None:
        self._open(path, indices)
        if window.start is not None:
            try:
                # A second early: seeking lands by the video's or the container's index, not by each stream's.
                self.container.seek(max(0, int((window.start - 1) * av.time_base)), backward=True)
            except av.FFmpegError:  # it cannot seek, and has moved all the same: from the top
                self.container.close()
                self._open(path, indices)
        self._packets = self._read(window.end)

    def _open(self, path: str, indices: Sequence[int]) -> None:
        self.container = open_input(path)
        self.streams = [self.container.streams[i] for i in indices]
        for stream in self.container.streams:
            if stream.index not in indices:
                stream.discard = Discard.all

    def __call__(self) -> Packet[Stream] | None:
        return next(self._packets, None)

    def close(self) -> None:
        self.container.close()

    def _read(self, end: Fraction | None) -> Iterator[Packet[Stream]]:
        open_streams = {s.index for s in self.streams}
        try:
            for packet in self.container.demux(self.streams):
                if not packet.size:
                    continue
                if end is not None and packet_time(packet) >= end:
                    open_streams.discard(packet.stream_index)
                    if not open_streams:
                        return
                yield packet
        except av.error.InvalidDataError:
            return  # a file that is cut off: the video's reader counts it


class PipePackets:
    """Packets of a pipe, put here by the decoder that meets them."""

    def __init__(self, container: InputContainer, indices: Sequence[int]) -> None:
        self.streams = [container.streams[i] for i in indices]
        self._indices = frozenset(indices)
        self._queue: deque[Packet[Stream]] = deque()

    def put(self, packet: Packet[Stream]) -> None:
        if packet.stream_index in self._indices:
            self._queue.append(packet)

    def __call__(self) -> Packet[Stream] | None:
        return self._queue.popleft() if self._queue else None

    def close(self) -> None:
        self._indices = frozenset()
        self._queue.clear()


def packet_time(packet: Packet[Stream]) -> Fraction:
    """Seconds; packets without any time count as 0."""
    ticks = packet.pts if packet.pts is not None else packet.dts
    return Fraction(ticks or 0) * Fraction(packet.time_base or 0)


class Passengers:
    """Streams carried from ``packets`` into ``output`` beside the video.

    Raises OutputError at construction where the container takes one of them neither as it is nor re-encoded.
    """

    def __init__(
        self,
        output: OutputContainer,
        packets: FilePackets | PipePackets,
        infos: Sequence[StreamInfo],
        window: Window,
        audio_codec: str | None,
    ) -> None:
        self._output = output
        self._packets = packets
        self._window = window
        self._held: Packet[Stream] | None = None
        self._carriers: dict[int, _Copy | _Transcode] = {}
        for stream, info in zip(packets.streams, infos, strict=True):
            if audio_codec in (None, "copy"):
                self._carriers[info.index] = _Copy(output, stream, info)
            else:
                self._carriers[info.index] = _Transcode(output, cast("AudioStream", stream), info, str(audio_codec))

    def mux_until(self, time: Fraction | None) -> None:
        """Write the packets that belong before ``time`` (seconds of the output); all that is left where None.

        Muxers sort only within a few seconds, so that the other streams must keep pace with the video.
        """
        while True:
            packet = self._held or self._packets()
            self._held = None
            if packet is None:
                break
            at = packet_time(packet)
            if not self._window.holds(at):
                continue
            if time is not None and at + self._window.shift > time:
                self._held = packet
                return
            self._shift(packet)
            for written in self._carriers[packet.stream_index].carry(packet):
                self._output.mux(written)
        if time is None:
            for carrier in self._carriers.values():
                for written in carrier.carry(None):
                    self._output.mux(written)

    def close(self) -> None:
        self._packets.close()

    def _shift(self, packet: Packet[Stream]) -> None:
        if self._window.shift and packet.time_base:
            ticks = round(self._window.shift / Fraction(packet.time_base))
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks


def _refusal(output: OutputContainer, info: StreamInfo) -> str:
    container = output.format.name
    encoder = "libopus" if container == "webm" else "aac"
    hint = f", or re-encode it with --audio-codec {encoder}" if info.kind == "audio" else ""
    return (
        f"{container} cannot carry {info.kind} stream {info.index} ({info.codec}): "
        f"choose another container, such as .mkv{hint}"
    )


def _audio_encoder(name: str) -> av.Codec:
    try:
        codec = av.Codec(name, "w")
    except UnknownCodecError:
        codec = None
    if codec is None or codec.type != "audio":
        raise OutputError(f"there is no audio encoder {name!r}: try aac, libopus, flac or libmp3lame")
    return codec


def _nearest_rate(rate: int, known: Sequence[int] | None) -> int:
    """``rate``, or what an encoder has instead: the next higher one (Opus: 48000 for 44100), else the highest."""
    if not known or rate in known:
        return rate
    return min((r for r in known if r > rate), default=max(known))


class _Copy:
    """Packets pass through untouched."""

    def __init__(self, output: OutputContainer, stream: Stream, info: StreamInfo) -> None:
        try:
            self._stream = output.add_stream_from_template(stream)
        except (ValueError, av.FFmpegError) as error:
            raise OutputError(_refusal(output, info)) from error
        _dress(self._stream, stream)

    def carry(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        if packet is not None:
            packet.stream = self._stream
            yield packet


class _Transcode:
    """Audio decoded and encoded again; same rate and channel layout where the encoder has them."""

    def __init__(self, output: OutputContainer, stream: AudioStream, info: StreamInfo, codec: str) -> None:
        rate = _nearest_rate(stream.rate, _audio_encoder(codec).audio_rates)
        self._source = stream
        try:
            self._stream = cast("AudioStream", output.add_stream(codec, rate=rate))
            self._stream.codec_context.layout = stream.layout
            self._stream.codec_context.open()
        except (ValueError, av.FFmpegError) as error:
            raise OutputError(
                f"audio stream {info.index} ({info.codec}) cannot be encoded as {codec} in {output.format.name}: "
                f"{reason(error)}"
            ) from error
        context = self._stream.codec_context
        self._resampler = av.AudioResampler(
            format=context.format,
            layout=context.layout,
            rate=context.sample_rate,
            frame_size=context.frame_size or None,
        )
        _dress(self._stream, stream)

    def carry(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        frames: list[AudioFrame | None] = []
        with contextlib.suppress(av.error.InvalidDataError):  # a damaged packet: a gap
            frames.extend(self._source.decode(packet))
        if packet is None:
            frames.append(None)
        for frame in frames:
            for resampled in self._resampler.resample(frame):
                yield from self._stream.encode(resampled)
        if packet is None:
            yield from self._stream.encode(None)


def _dress(target: Stream, source: Stream) -> None:
    """Language, title, and which one plays by default: a template carries neither."""
    target.metadata.update(source.metadata)
    target.disposition = source.disposition
