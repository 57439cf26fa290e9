"""Fields woven into frames become frames again, before the network: FFmpeg's ``bwdif``, one frame out for each in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
from av.filter import Graph
from av.video.reformatter import VideoReformatter

from rcan_video.errors import InputError
from rcan_video.frames import PlaneLayout
from rcan_video.media.files import shown
from rcan_video.media.picture import converted
from rcan_video.media.probe import planar_layout
from rcan_video.options import Deinterlace

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Stamped = tuple["VideoFrame", int, int]  # a decoded frame, its PTS and duration

_THREADS = 4  # as many as the decoder has


@dataclass(slots=True)
class _Fate:
    """The first frame, by its place among those given out, that was deinterlaced, or that is interlaced and was left
    so for the reason ``why``."""

    deinterlaced: int | None = None
    kept: int | None = None
    why: str = ""


class Deinterlacer:
    """Sends frames through ``bwdif`` where they need it; PTS and durations stay with their frames.

    ``auto`` changes frames that are flagged as interlaced and leaves all others alone, ``on`` changes every frame,
    ``off`` none. ``path`` is the input's, for messages, and ``codec`` the name of its decoder. Frames that come out of
    ``bwdif`` are flagged as progressive; nothing else about them changes but the picture.
    """

    def __init__(self, mode: Deinterlace, path: str, codec: str) -> None:
        self._mode = mode
        self._name = shown(path)
        # The two fields of a frame come as two pictures, each flagged: there is nothing woven to take apart.
        self._apart = codec == "hevc"
        self._given = 0
        self._last = _Fate()
        self._fate = _Fate()

    def __call__(self, frames: Iterable[Stamped]) -> Iterator[Stamped]:
        """Every frame once, in order; one behind the source once ``bwdif`` is at work, which looks at both neighbours.

        Raises InputError, with ``on``, for frames that ``bwdif`` cannot take.
        """
        graph: _Bwdif | None = None
        before: VideoFrame | None = None
        refused: tuple[object, ...] = ()
        why = ""
        for stamped in frames:
            frame = stamped[0]
            interlaced = bool(frame.interlaced_frame)
            if graph is not None and not graph.fits(frame):
                yield from self._count(graph.end())
                graph = before = None
            wanted = self._mode == "on" or (self._mode == "auto" and interlaced)
            if graph is None and wanted and _key(frame) != refused:
                graph, why = self._open(frame, interlaced)
                if graph is None and self._mode == "on":
                    raise InputError(f"{self._name} cannot be deinterlaced: {why}; use --deinterlace off")
                if graph is None:
                    refused = _key(frame)
                elif before is not None and graph.fits(before):
                    graph.lead_in(before)
            if graph is not None:
                yield from self._count(graph.push(stamped))
            else:
                before = frame
                yield from self._count([(stamped, False)], why)
        if graph is not None:
            yield from self._count(graph.end())

    def begin(self) -> None:
        """The frame given out last is the first that counts."""
        self._given, self._fate = 1, self._last

    def notices(self) -> list[str]:
        """What is done with the first frame that counts, and so with all that are like it: for the start."""
        if self._mode == "on":
            return [f"every frame of {self._name} is deinterlaced with bwdif"]
        if self._fate.deinterlaced == 0:
            return [f"{self._name} is interlaced: it is deinterlaced with bwdif (--deinterlace off keeps its fields)"]
        if self._fate.kept == 0:
            return [f"{self._name} is interlaced and is upscaled with its fields: {self._fate.why}"]
        return []

    def late_notices(self, count: int) -> list[str]:
        """What was done with frames that are unlike the first, where ``count`` were used: for the end."""
        found = []
        deinterlaced, kept = self._fate.deinterlaced, self._fate.kept
        if self._mode == "auto" and deinterlaced is not None and 0 < deinterlaced < count:
            found.append(f"{self._name} is interlaced from frame {deinterlaced} on: such frames were deinterlaced")
        if kept is not None and 0 < kept < count:
            found.append(f"{self._name} is interlaced from frame {kept} on, and was upscaled with its fields there")
        return found

    def _open(self, frame: VideoFrame, interlaced: bool) -> tuple[_Bwdif | None, str]:
        """The filter, or why it cannot be used."""
        if self._apart and interlaced:
            return None, "its stream stores each field as a picture of its own"
        try:
            return _Bwdif(frame, every=self._mode == "on"), ""
        except (av.FFmpegError, OSError, ValueError):
            return None, f"bwdif takes no {frame.format.name} of {frame.width}x{frame.height}"

    def _count(self, results: Iterable[tuple[Stamped, bool]], why: str = "") -> Iterator[Stamped]:
        """Note what became of each frame just before it is given out."""
        for stamped, deinterlaced in results:
            kept = bool(stamped[0].interlaced_frame)
            why = why or ("--deinterlace auto avoids combs" if self._mode == "off" else "FFmpeg takes it for telecine")
            self._last = _Fate(0 if deinterlaced else None, 0 if kept else None, why)
            if deinterlaced and self._fate.deinterlaced is None:
                self._fate.deinterlaced = self._given
            if kept and self._fate.kept is None:
                self._fate.kept, self._fate.why = self._given, why
            self._given += 1
            yield stamped


class _Bwdif:
    """One filter graph for frames of one size and format. Raises what FFmpeg and PyAV raise where it takes none such.

    Frames are told apart by their order alone, which is safe because ``send_frame`` gives one for each; the filter's
    own times have another base.
    """

    def __init__(self, frame: VideoFrame, *, every: bool) -> None:
        self._key = _key(frame)
        self._every = every
        self._format = frame.format.name
        # Packed formats are repacked for the filter, and back, which changes no sample.
        self._inner = self._format if PlaneLayout.parse(self._format) else planar_layout(self._format).pix_fmt
        self._reformatter = VideoReformatter()
        self._waiting: deque[tuple[int, int, bool] | None] = deque()
        self._pushed = 0
        self._graph = self._build(frame)
        # FFmpeg converts without a word what a filter does not take: one empty frame tells.
        trial = self._build(frame)
        trial.vpush(self._packed(av.VideoFrame(frame.width, frame.height, self._inner), self._inner))
        trial.vpush(None)
        result = trial.vpull()
        if result.format.name != self._inner:
            raise ValueError(f"bwdif takes no {self._inner}")
        self._packed(result, self._format)

    def fits(self, frame: VideoFrame) -> bool:
        return _key(frame) == self._key

    def lead_in(self, frame: VideoFrame) -> None:
        """A frame to look back at, that has been given out already. Only as the first one."""
        self._waiting.append(None)
        self._send(frame)

    def push(self, stamped: Stamped) -> list[tuple[Stamped, bool]]:
        """Frames that are ready, each with whether it was changed."""
        frame, pts, duration = stamped
        self._waiting.append((pts, duration, self._every or bool(frame.interlaced_frame)))
        self._send(frame)
        return self._ready()

    def end(self) -> list[tuple[Stamped, bool]]:
        """The frames that are left."""
        self._graph.vpush(None)
        return self._ready()

    def _build(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = _THREADS
        source = graph.add(
            "buffer",
            f"video_size={frame.width}x{frame.height}:pix_fmt={self._inner}:time_base=1/1"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
        )
        bwdif = graph.add("bwdif", f"mode=send_frame:parity=auto:deint={'all' if self._every else 'interlaced'}")
        sink = graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        graph.configure()
        return graph

    def _send(self, frame: VideoFrame) -> None:
        frame = self._packed(frame, self._inner)
        frame.pts = self._pushed  # the filter reckons with times, and the input's may be missing
        self._pushed += 1
        self._graph.vpush(frame)

    def _ready(self) -> list[tuple[Stamped, bool]]:
        found: list[tuple[Stamped, bool]] = []
        while True:
            try:
                frame = self._graph.vpull()
            except (BlockingIOError, EOFError):
                return found
            place = self._waiting.popleft()
            if place is not None:
                pts, duration, wanted = place
                changed = wanted and not frame.interlaced_frame
                found.append(((self._packed(frame, self._format), pts, duration), changed))

    def _packed(self, frame: VideoFrame, pix_fmt: str) -> VideoFrame:
        return frame if frame.format.name == pix_fmt else converted(frame, pix_fmt, self._reformatter)


def _key(frame: VideoFrame) -> tuple[object, ...]:
    """What a graph is built for."""
    return (frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range))
