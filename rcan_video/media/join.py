"""Segments into the output, packet by packet, beside everything else that the source holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import numpy.typing as npt

from rcan_video.errors import InputError, VerificationError
from rcan_video.media.codecs import VideoTarget
from rcan_video.media.encoder import dress_video, tag_for_apple
from rcan_video.media.files import MP4_FAMILY, open_input, output_errors
from rcan_video.media.output import Output
from rcan_video.media.segment import Encoded, segment_encoder
from rcan_video.video import VideoInfo

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

# Codecs whose packets MP4 stores with lengths in place of start codes, and their parameter sets to match.
_LENGTHS = frozenset({"libx264", "libx265"})

Times = npt.NDArray[np.int64]


def join(output: Output, segments: Sequence[tuple[Path, Encoded]], info: VideoInfo, target: VideoTarget) -> None:
    """Write the frames of ``segments`` (at least one, in order) into ``output``, with the times they had in the source.

    Raises VerificationError for a segment that is not what was recorded, OutputError.
    """
    order = np.concatenate([_times(path, encoded, info.time_base) for path, encoded in segments]) + output.shift
    end = segments[-1][1].end + output.shift
    dts = decode_times(order)
    shown = np.sort(order)
    lasts = np.append(np.diff(shown), end - shown[-1])
    durations = lasts[np.searchsorted(shown, order)]
    if output.format in MP4_FAMILY:
        # These add up how long each packet is decoded: with the last one as long as the frame shown last, the track
        # ends where the video does.
        durations[-1] = lasts[-1]
    for pts, last in zip(shown.tolist(), lasts.tolist(), strict=True):
        output.ledger.video.note(pts, last, info.time_base)
    if len({encoded.headers for _, encoded in segments}) > 1:
        raise VerificationError(
            f"the segments of {output.name} have different parameter sets: run the command with --restart"
        )
    stream = _add_stream(output, segments[0][0], info, target)
    dress_video(stream, info, target, from_start=output.from_start)
    output.begin(target.codec)
    with output_errors(output.name):
        output.mux(_stamped(segments, stream, info.time_base, order, dts, durations))
        output.finish()


def decode_times(order: Times) -> Times:
    """DTS for packets in decode order with the PTS ``order`` (all different): ascending, never behind the PTS, with the
    smallest delay that allows this.

    All DTS together span what the PTS do, since MP4 takes the duration of a track from them.
    """
    shown = np.sort(order)
    count = len(order)
    delay = min(int((np.arange(count) - np.searchsorted(shown, order)).max()), count - 1)
    if delay <= 0:
        return shown
    span = max(int(shown[-1] - shown[-1 - delay]), delay)
    lead = shown[0] - np.array([span * (delay - i) // delay for i in range(delay)], np.int64)
    return np.concatenate([lead, shown[: count - delay]])


def _add_stream(output: Output, segment: Path, info: VideoInfo, target: VideoTarget) -> VideoStream:
    if target.codec not in _LENGTHS:
        # What the container says of these (shape, chroma siting, profile) a segment does not give back: the stream is
        # that of their encoder, which is never fed.
        return segment_encoder(output.container, target, info).stream
    with open_input(str(segment)) as file:
        stream = output.container.add_stream_from_template(file.streams.video[0], opaque=True)
    stream.time_base = info.time_base
    context, tags = stream.codec_context, target.color.tags
    context.framerate = info.rate  # Matroska's default duration; what segments say is their time base
    # H.264 does not write a range that nothing else is tagged with; containers do.
    context.color_range, context.colorspace = tags.range, tags.matrix
    context.color_primaries, context.color_trc = tags.primaries, tags.transfer
    tag_for_apple(stream, target.codec, output.format)
    return stream


def _packets(path: Path) -> Iterator[Packet[VideoStream]]:
    with open_input(str(path)) as file:
        yield from (packet for packet in file.demux(file.streams.video[0]) if packet.size)


def _times(path: Path, encoded: Encoded, time_base: Fraction) -> Times:
    """PTS of a segment's packets in decode order, in ticks of the source."""
    try:
        times = [
            packet.pts * Fraction(packet.time_base) / time_base for packet in _packets(path) if packet.pts is not None
        ]
    except (av.FFmpegError, InputError, IndexError) as error:
        raise VerificationError(
            f"the segment {path} cannot be read: delete it and run the same command again"
        ) from error
    if len(times) != encoded.frames or any(time.denominator != 1 for time in times):
        raise VerificationError(
            f"the segment {path} holds other frames than were encoded: delete it and run the same command again"
        )
    ticks = np.array([int(time) for time in times], np.int64)
    moved: Times = ticks - ticks.min() + encoded.first
    return moved


def _stamped(
    segments: Sequence[tuple[Path, Encoded]],
    stream: VideoStream,
    time_base: Fraction,
    order: Times,
    dts: Times,
    durations: Times,
) -> Iterator[Packet[VideoStream]]:
    packets = (packet for path, _ in segments for packet in _packets(path))
    for packet, at, decoded, lasts in zip(packets, order.tolist(), dts.tolist(), durations.tolist(), strict=True):
        packet.time_base, packet.pts, packet.dts, packet.duration = time_base, at, decoded, lasts
        packet.stream = stream
        yield packet
