"""``--hwaccel``: decoding on a GPU, where its frames are those of software, and in software everywhere else."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import av
import av.error
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.reformatter import VideoReformatter

from rcan_video.errors import DeviceError, InputError
from rcan_video.frames import PlaneLayout
from rcan_video.media.alpha import alpha_decoder
from rcan_video.media.files import PIPE, open_input, reason, shown
from rcan_video.media.picture import converted
from rcan_video.media.probe import best_video, planar_layout
from rcan_video.options import HwAccel

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# FFmpeg's decoders of formats whose standards leave no sample open. The inverse transforms of MPEG-2, MPEG-4 and VC-1
# may round as they like.
_EXACT = frozenset({"h264", "hevc", "vp8", "vp9", "av1"})


class HardwareDecoding:
    """What a ``Source`` asks of a GPU: opens ``path``, and makes its frames those that software would give.

    Frames are brought into the host's memory by FFmpeg, half planar as GPUs keep them (NV12, P010), and leave here in
    planes. That is a copy more than decoding in software; it saves the CPU the decoding. FFmpeg's context on the device
    is its own, beside torch's.
    """

    def __init__(self, kind: HwAccel, path: str) -> None:
        self._kind = kind
        self._path = path
        self._why_not = ""
        self._stream: VideoStream | None = None  # that hardware decodes, as far as is known
        self._reformatter = VideoReformatter()
        if kind != "none" and path == PIPE:
            self._why_not = "standard input can be opened once only"
        elif kind != "none" and kind not in hwdevices_available():
            self._why_not = "this FFmpeg was built without it"

    def open(self, stop: threading.Event | None) -> InputContainer:
        """The input, with its decoders on the GPU where that can be: a file is opened twice for that.

        Raises InputError as ``open_input``.
        """
        container = open_input(self._path, stop=stop)
        self._stream = None
        if self._kind == "none" or self._why_not:
            return container
        try:
            self._why_not = self._unfit(container)
            if self._why_not:
                return container
            quick = open_input(self._path, stop=stop, hwaccel=HWAccel(self._kind, allow_software_fallback=True))
        except InputError as error:
            # Without a cause there is no video in it, which is said where it is looked for.
            if isinstance(error.__cause__, Exception):
                self._why_not = f"it does not open on this machine: {reason(error.__cause__)}"
            return container
        stream = best_video(quick, self._path)
        if not stream.codec_context.is_hwaccel:
            self._why_not = f"it has no decoder for {stream.codec_context.name}"
            quick.close()
            return container
        container.close()
        self._stream = stream
        return quick

    def planar(self, frame: VideoFrame) -> VideoFrame:
        """A decoded frame in the pixel format that software decodes to: no sample changes."""
        if self._stream is None:
            return frame
        if self._stream.codec_context.pix_fmt != self._kind:  # FFmpeg has asked the GPU, and gone back to software
            self._why_not = f"it does not take this {self._stream.codec_context.name}"
            self._stream = None
            return frame
        if PlaneLayout.parse(frame.format.name) is not None:
            return frame
        return converted(frame, planar_layout(frame.format.name).pix_fmt, self._reformatter)

    def check(self, error: av.FFmpegError) -> None:
        """Raises DeviceError for an error of decoding that does not say that the input is damaged, where a GPU decodes:
        what it cannot do must not count as damage."""
        if self._stream is not None and not isinstance(error, av.error.InvalidDataError):
            raise DeviceError(
                f"{self._kind} cannot decode {shown(self._path)} any further ({reason(error)}): run the command again "
                "without --hwaccel"
            ) from error

    def notices(self) -> list[str]:
        """Where software decodes though hardware was to, a sentence with the reason."""
        if not self._why_not:
            return []
        return [f"{shown(self._path)} is decoded in software instead of by {self._kind}: {self._why_not}"]

    def _unfit(self, container: InputContainer) -> str:
        """Why hardware is not even tried; empty where it may be."""
        stream = best_video(container, self._path)
        name = stream.codec_context.name
        if alpha_decoder(stream) is not None:
            return "it knows no transparency"
        if name not in _EXACT:
            return f"its frames of {name} may differ from those of software"
        return ""
