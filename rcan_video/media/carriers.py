"""One stream's way into the output: copied, encoded again, turned into other subtitles, or attached."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import av
from av.codec.codec import UnknownCodecError
from av.stream import Disposition

from rcan_video.errors import OutputError
from rcan_video.media.ac3 import Uniform
from rcan_video.media.damage import Damage
from rcan_video.media.files import MP4_FAMILY, elsewhere, reason
from rcan_video.media.fit import StreamPlan, is_private
from rcan_video.media.gapless import Gapless
from rcan_video.media.packets import FilePackets, PipePackets
from rcan_video.media.times import packet_time
from rcan_video.video import StreamInfo

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.subtitles.codeccontext import SubtitleCodecContext
    from av.subtitles.stream import SubtitleStream


class Carrier(Protocol):
    """One stream's way into the output. ``carry(None)`` comes last and gives what was held back."""

    def carry(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]: ...


def carrier_of(
    output: OutputContainer, packets: FilePackets | PipePackets, plan: StreamPlan, audio_bitrate: int | None
) -> Carrier:
    """The way of the stream of ``plan``, which is not dropped: a new stream or attachment of ``output``.

    Raises OutputError where the container takes it neither as it is nor re-encoded.
    """
    stream = packets.container.streams[plan.info.index]
    if plan.info.kind == "audio":
        return _sound(output, cast("AudioStream", stream), plan, audio_bitrate, packets.damage)
    if plan.action == "copy":
        return _Copy(output, stream, plan.info)
    if plan.info.kind == "subtitle":
        return _Retext(output, cast("SubtitleStream", stream), plan)
    assert isinstance(packets, FilePackets)  # ``fit`` plans no attachment from a pipe: its cover comes too late
    return _Attach(output, stream, packets.cover(plan.info.index))


def _sound(
    output: OutputContainer, stream: AudioStream, plan: StreamPlan, bitrate: int | None, damage: Damage
) -> Carrier:
    carrier: Carrier
    in_mp4 = output.format.name in MP4_FAMILY
    if plan.action == "copy":
        carrier = _Copy(output, stream, plan.info)
        if in_mp4 and plan.codec in ("ac3", "eac3"):
            carrier = Uniform(carrier.carry, damage)
    else:
        carrier = _Transcode(output, stream, plan, bitrate, damage)
    if in_mp4 and plan.codec.startswith("pcm_"):
        carrier = Gapless(carrier.carry, stream, plan.codec, damage)
    return carrier


class _Copy:
    """Packets pass through untouched.

    Those that an edit list cuts off are left behind, as players leave them: not every container can hide them. The last
    ones before the cut go along, because the decoder of what follows needs them to start up (AAC: one, HE-AAC: two),
    but not where the list has had another part before, whose packets lie at their times. AVI, which has no times,
    would play them and begin the pictures later: there nothing begins before zero.
    """

    _START_UP = 2

    def __init__(self, output: OutputContainer, stream: Stream, info: StreamInfo) -> None:
        try:
            # opaque: a template by decoder, since not every codec that can be copied can be encoded here.
            self._stream = output.add_stream_from_template(stream, opaque=True)
        except (ValueError, av.FFmpegError) as error:
            raise OutputError(_refusal(output, info)) from error
        if is_private(output.format.name, stream):
            raise OutputError(_refusal(output, info))
        if info.kind == "audio":  # MP4 takes no PCM of an unnamed layout, and says so with its trailer only
            context = cast("AudioStream", self._stream).codec_context
            context.layout = _known(cast("AudioStream", stream).layout)
        _dress(self._stream, stream)
        self._cut_off: deque[Packet[Stream]] = deque(maxlen=self._START_UP + 1)
        self._last: Fraction | None = None  # seconds, of the last packet that has passed
        self._starts_up = output.format.name != "avi"

    def carry(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        if packet is None:
            return
        self._cut_off.append(packet)
        if packet.is_discard:
            return
        while self._cut_off:
            kept = self._cut_off.popleft()
            at = packet_time(kept)
            if kept.is_discard and at is not None and self._last is not None and at <= self._last:
                continue
            if at is not None and at < 0 and not self._starts_up:
                continue
            self._last = at
            kept.stream = self._stream
            yield kept


class _Transcode:
    """Audio decoded and encoded again; same rate and channel layout where the encoder has them."""

    def __init__(
        self, output: OutputContainer, stream: AudioStream, plan: StreamPlan, bitrate: int | None, damage: Damage
    ) -> None:
        info, codec = plan.info, plan.codec
        rate = _nearest_rate(stream.rate, _audio_encoder(codec).audio_rates)
        self._source = stream
        self._damage = damage
        self._next: Fraction | None = None  # seconds, where the last frame ended
        try:
            self._stream = cast("AudioStream", output.add_stream(codec, rate=rate))
            self._stream.codec_context.layout = _known(stream.layout)
            if bitrate is not None:
                self._stream.codec_context.bit_rate = bitrate
            self._stream.codec_context.open()
        except (ValueError, av.FFmpegError) as error:
            raise OutputError(
                f"audio stream {info.index} ({info.codec}) cannot be encoded as {codec} in {output.format.name}: "
                f"{reason(error)}"
            ) from error
        if is_private(output.format.name, self._stream):
            raise OutputError(f"{output.format.name} cannot carry {codec} audio: choose another, such as aac")
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
        try:
            frames.extend(self._source.decode(packet))
        except av.FFmpegError:  # a gap; parsers have error codes of their own
            self._damage.other(None if packet is None else packet_time(packet))
        if packet is None:
            frames.append(None)
        for frame in frames:
            if frame is not None:
                self._stamp(frame)
            for resampled in self._resampler.resample(frame):
                yield from self._stream.encode(resampled)
        if packet is None:
            yield from self._stream.encode(None)

    def _stamp(self, frame: AudioFrame) -> None:
        """A frame without a time (WMA's last one, which flushing gives) follows the one before it."""
        base = Fraction(frame.time_base or self._source.time_base or Fraction(1, frame.sample_rate))
        if frame.pts is None and self._next is not None:
            frame.pts, frame.time_base = round(self._next / base), base
        if frame.pts is not None:
            self._next = frame.pts * base + Fraction(frame.samples, frame.sample_rate)


class _Retext:
    """Text subtitles turned into another kind; FFmpeg's decoders and encoders meet in ASS."""

    _TICK = Fraction(1, 1000)

    def __init__(self, output: OutputContainer, stream: SubtitleStream, plan: StreamPlan) -> None:
        self._source = stream.codec_context
        self._stream = output.add_stream(plan.codec)
        self._encoder = cast("SubtitleCodecContext", self._stream.codec_context)
        try:
            self._source.open(strict=False)
            self._encoder.subtitle_header = self._source.subtitle_header
            self._encoder.time_base = self._stream.time_base = self._TICK
            self._encoder.open()
        except (ValueError, av.FFmpegError) as error:
            raise OutputError(
                f"subtitle stream {plan.info.index} ({plan.info.codec}) cannot be converted to {plan.codec}: "
                f"{reason(error)}; leave it out with --no-subs"
            ) from error
        _dress(self._stream, stream)

    def carry(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        if packet is None or packet.pts is None or packet.time_base is None:
            return
        try:
            text = self._source.decode2(packet)
            if text is None or not len(text):  # MP4 fills the time between two subtitles with empty ones
                return
            written = cast("Packet[Stream]", self._encoder.encode_subtitle(text))
        except av.FFmpegError:  # a damaged one: the others are worth having
            return
        written.time_base = self._TICK
        written.pts = written.dts = round(packet.pts * packet.time_base / self._TICK)
        written.duration = round((packet.duration or 0) * packet.time_base / self._TICK)
        written.stream = self._stream
        yield written


class _Attach:
    """Cover art as an attachment, which is part of the header; nothing is carried later."""

    _TYPES: ClassVar[Mapping[str, tuple[str, str]]] = {
        "mjpeg": ("cover.jpg", "image/jpeg"),
        "png": ("cover.png", "image/png"),
        "bmp": ("cover.bmp", "image/bmp"),
        "gif": ("cover.gif", "image/gif"),
        "tiff": ("cover.tif", "image/tiff"),
    }

    def __init__(self, output: OutputContainer, stream: Stream, picture: bytes) -> None:
        name, mime = self._TYPES.get(stream.codec_context.name, ("cover", "application/octet-stream"))
        known = stream.metadata  # Matroska's own attachments have both
        output.add_attachment(known.get("filename", name), known.get("mimetype", mime), picture)

    def carry(self, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
        yield from ()


def _dress(target: Stream, source: Stream) -> None:
    """Language, title, and which one plays by default: a template carries neither."""
    target.metadata.update(source.metadata)
    target.disposition = source.disposition
    if source.type == "video":
        target.disposition &= ~Disposition.default  # players are to choose the enlarged one


def _refusal(output: OutputContainer, info: StreamInfo) -> str:
    container = output.format.name
    encoder = "libopus" if container == "webm" else "aac"
    other = "" if container == "matroska" else f"choose another {elsewhere(container)}, or "
    return (
        f"{container} cannot carry {info.kind} stream {info.index} ({info.codec}): "
        f"{other}re-encode it with --audio-codec {encoder}"
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


def _known(layout: av.AudioLayout) -> av.AudioLayout:
    """The usual layout for as many channels where a container (NUT, AVI) gives their number alone."""
    if layout.name == f"{layout.nb_channels} channels":
        with contextlib.suppress(ValueError):  # nine and more have none
            return av.AudioLayout(f"{layout.nb_channels}c")
    return layout
