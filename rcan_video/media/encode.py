"""Frames into the output in one go: encoder, muxer and passengers behind one ``write``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rcan_video.frames import Frame
from rcan_video.media.codecs import VideoTarget
from rcan_video.media.encoder import VideoEncoder, dress_video
from rcan_video.media.encoder_options import writes_hdr
from rcan_video.media.files import MP4_FAMILY, output_errors
from rcan_video.media.fit import StreamPlan
from rcan_video.media.hardware import plan_for_this_machine
from rcan_video.media.output import Output
from rcan_video.media.verify import Ledger
from rcan_video.options import EncodeOptions
from rcan_video.size import Size
from rcan_video.video import VideoInfo

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

# Encoders that write the sample aspect ratio into their stream. For the others the container has to keep it, and
# PyAV cannot tell it to Matroska and WebM.
_SHAPED = frozenset({"libx264", "libx264rgb", "libx265", "h264_nvenc", "hevc_nvenc", "mpeg2video", "mpeg4"})


# Containers that say how the picture is to be turned on display.
_TURNED = MP4_FAMILY | {"matroska", "webm"}
# Containers without a time for each frame, and encoders that know a few rates only.
_UNTIMED = frozenset({"yuv4mpegpipe", "avi", "h264", "hevc", "obu"})
_FIXED_RATE = frozenset({"mpeg1video", "mpeg2video"})


class Writer:
    """The output. Opened whole (encoder at the real size, header for the real streams) before the first frame.

    ``output`` is this one's from now on, closed with it; frames are those of its ``info``, enlarged ``scale`` times and
    reduced to about the size ``wanted``, where there is one.
    One thread at a time. ``finish`` makes the file complete; leaving the ``with`` without it leaves a part, which is
    the caller's to remove.

    Raises OutputError and UsageError at construction, OutputError on writing.
    """

    target: VideoTarget

    def __init__(self, output: Output, scale: int, options: EncodeOptions, wanted: Size | None = None) -> None:
        self._output = output
        self._info = info = output.info
        self._first: int | None = None
        self._end = 0  # ticks of the output, behind the last frame
        self._delay: int | None = None  # ticks from the first packet's DTS to its PTS
        self._uneven = False
        try:
            self.container = self._output.format
            self.target = plan_for_this_machine(info, scale, self.container, options, wanted)
            # Where times cannot be stored, frames follow each other at the nominal rate.
            self._counts = self.container in _UNTIMED or self.target.codec in _FIXED_RATE
            self._time_base = 1 / info.rate if self._counts else info.time_base
            self._encoder = VideoEncoder(self._output.container, self.target, info, self._time_base)
            dress_video(self._encoder.stream, info, self.target, from_start=self._output.from_start)
            self.notices = [*self.target.notices, *_unshaped(self.target, self.container)]
            self._output.begin(self.target.codec)
            self.losses = [*_lost(info, self.target, self.container), *self._output.losses]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def frames(self) -> int:
        """Frames encoded so far."""
        return self.ledger.video.packets

    @property
    def ledger(self) -> Ledger:
        return self._output.ledger

    @property
    def plans(self) -> tuple[StreamPlan, ...]:
        """What becomes of the other streams."""
        return self._output.plans

    @property
    def timed(self) -> bool:
        """Whether the output stores a time for every frame."""
        return not self._counts

    def write(self, frame: Frame) -> None:
        """Encode one frame; its planes may be slices of memory that nobody overwrites while they are referenced."""
        self._first = frame.pts if self._first is None else self._first
        pts, duration = frame.pts + self._output.shift, frame.duration
        if self._counts:  # from the first frame's time, so that the sound stays in sync
            first = (self._first + self._output.shift) * self._info.time_base
            pts, duration = round(first * self._info.rate) + self.frames, 1
        self._end = pts + duration
        self.ledger.video.note(pts, duration, self._time_base)
        even = (frame.pts - self._first) * self._info.time_base * self._info.rate
        self._uneven = self._uneven or abs(even - self.frames) > 1
        with output_errors(self._output.name):
            self._mux(self._encoder.encode(frame, pts, duration))

    def late_notices(self) -> list[str]:
        """What only the end has shown, in sentences."""
        if self._counts and self._uneven:
            return [
                f"{self.container} with {self.target.codec} stores no time for each frame: those of the input are "
                f"uneven and are lost, all frames come at {float(self._info.rate):.6g} frames/s; --fps-mode cfr "
                "keeps pace"
            ]
        return []

    def finish(self) -> None:
        """Flush the encoder and the passengers, and write the trailer."""
        with output_errors(self._output.name):
            packets = self._encoder.flush(self.frames)
            if packets and self.container in MP4_FAMILY:
                self._end_track(packets[-1])
            self._mux(packets)
            self._output.finish()

    def _end_track(self, last: Packet[VideoStream]) -> None:
        """Let the packet decoded last reach to the end of the frame shown last.

        The MP4 family stores how long each packet is decoded and adds that up to the track's duration. Where frames are
        reordered, the sum ends too early, unless all of them last equally long.
        """
        if last.pts is None or last.dts is None:
            return
        last.duration = self._end - last.pts
        last.dts = max(last.dts, last.pts - (self._delay or 0))

    def close(self) -> None:
        """Let go of everything, the unfinished file's end included."""
        self._output.close()

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        for packet in packets:
            if self._delay is None and packet.pts is not None and packet.dts is not None:
                self._delay = packet.pts - packet.dts
        self._output.mux(packets)


def _lost(info: VideoInfo, target: VideoTarget, container: str) -> list[str]:
    """What of the picture cannot be kept, in sentences."""
    lost = [f"{name} cannot be kept" for name in info.unwritable]
    if info.display_matrix is not None and container not in _TURNED:
        lost.append(
            f"{container} stores no rotation and no flip: players will show the picture as it lies in the file; .mp4, "
            ".mov and .mkv keep it turned"
        )
    if info.alpha and not info.layout.alpha:
        lost.append(f"transparency is left out: this FFmpeg has no decoder for that of {info.codec}")
    elif info.alpha and not target.alpha:
        lost.append(target.lost_alpha(container))
    if info.hdr is not None and not writes_hdr(target.codec):
        lost.append(f"{target.codec} writes no static HDR metadata: libx265 and libsvtav1 do")
    return lost


def _unshaped(target: VideoTarget, container: str) -> list[str]:
    if target.sar is None or target.codec in _SHAPED or container not in ("matroska", "webm"):
        return []
    return [f"{target.codec} in {container} loses the sample aspect ratio {target.sar}: .mp4 keeps it"]
