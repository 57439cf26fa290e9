"""What a worker does: a parcel of packets in, an encoded segment out, by the code that computes segments anywhere."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rcan_video.engine.devices import choose_devices
from rcan_video.errors import DeviceError, InputError, OutputError, RcanVideoError, UsageError, WeightsError
from rcan_video.frames import Mark
from rcan_video.media.codecs import VideoTarget
from rcan_video.media.pace import Passthrough
from rcan_video.media.parcel import Parcel, ParcelSource
from rcan_video.media.segment import Encoded, suffix
from rcan_video.network.catalog import LoadedModel
from rcan_video.options import Deinterlace, DeviceOptions
from rcan_video.pipeline import run
from rcan_video.prepare import engine_for
from rcan_video.segments.plan import Plan
from rcan_video.segments.run import Feed, Sink
from rcan_video.segments.store import JobFolder
from rcan_video.version import __version__
from rcan_video.video import VideoInfo

if TYPE_CHECKING:
    from rcan_video.engine.base import Engine

_BEFORE = -(1 << 62)  # no PTS is less
# The errors that a worker hands back, by name: an exception of a class of ours loses what its constructor wants.
_KINDS = {kind.__name__: kind for kind in (UsageError, DeviceError, OutputError, WeightsError, RcanVideoError)}


def versions() -> tuple[str, ...]:
    """What the frames of a segment depend on beside what is sent: equal wherever they are to be equal."""
    return (__version__, version("torch"), version("av"))


@dataclass(frozen=True, slots=True)
class Setting:
    """What all segments of a job have in common. ``info`` is that of the frames that go to the network; ``versions``
    are those of the driver."""

    model: LoadedModel
    info: VideoInfo
    target: VideoTarget
    device: DeviceOptions
    deinterlace: Deinterlace
    max_pixels: int
    versions: tuple[str, ...] = field(default_factory=versions)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of segment ``number`` on machine ``node``.

    ``data`` is its file, which holds ``encoded``; ``mark`` is the place behind it, counted from the parcel's first
    frame, and None at the end; ``begin`` the digest of its first frame; ``times`` the PTS of its frames. Or else:
    ``trouble`` says why these packets alone do not give the segment, and ``error`` (the name of a class and a sentence)
    what nobody else would do better. ``notices`` are the sentences that this worker's engine has said so far.
    """

    number: int
    node: str
    data: bytes = b""
    encoded: Encoded | None = None
    mark: Mark | None = None
    begin: str = ""
    times: tuple[int, ...] = ()
    reused: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)
    trouble: str = ""
    error: tuple[str, str] | None = None
    notices: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises the worker's error."""
        if self.error is not None:
            name, text = self.error
            raise _KINDS[name](f"{self.node}: {text}")


class Worker:
    """Computes segments of one job, one after the other, with an engine that stays open."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._engine: Engine | None = None
        self._node = socket.gethostname()
        self._notices: list[str] = []

    def ready(self) -> str:
        """The name of the machine: there it is, and can be given work."""
        return self._node

    def compute(self, parcel: Parcel) -> Answer:
        """Never raises what is a user's to hear: the answer says it."""
        begun = time.perf_counter()
        try:
            return self._compute(parcel, begun)
        except InputError as error:  # whoever has the whole file may do better, or say it better
            return Answer(parcel.number, self._node, trouble=str(error))
        except RcanVideoError as error:
            name = next(name for name, kind in _KINDS.items() if isinstance(error, kind))
            return Answer(parcel.number, self._node, error=(name, str(error)))

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _compute(self, parcel: Parcel, begun: float) -> Answer:
        setting = self._setting
        if setting.versions != versions():
            here, there = " ".join(versions()), " ".join(setting.versions)
            raise DeviceError(f"this node has rcan-video, torch and av {here}, the driver {there}: install the same")
        starts = (_BEFORE, parcel.start) if parcel.end is None else (_BEFORE, parcel.start, parcel.end)
        with tempfile.TemporaryDirectory(prefix="rcan-video-") as name:
            path = Path(name) / "parcel.nut"
            path.write_bytes(parcel.data)
            with (
                ParcelSource(
                    path, parcel, setting.info, deinterlace=setting.deinterlace, max_pixels=setting.max_pixels
                ) as source,
                JobFolder(Path(name) / "job", suffix(setting.target)) as folder,
            ):
                folder.begin(Plan({}, starts, by_pts=True, frames=0))
                feed = Feed(source, Passthrough(source.info), folder, [1])
                with Sink(feed, folder, setting.target, setting.info, "a segment", [1]) as sink:
                    counts = run(feed.frames(), self._open(), sink.write, stop=threading.Event())
                    sink.finish(None)
                record = folder.done.records[1]
                if source.damage:
                    return Answer(parcel.number, self._node, trouble="its packets are damaged")
                if record.encoded is None:
                    return Answer(parcel.number, self._node, trouble="its packets give no frame")
                return Answer(
                    number=parcel.number,
                    node=self._node,
                    data=folder.file(1).read_bytes(),
                    encoded=record.encoded,
                    mark=record.mark,
                    begin=source.begin,
                    times=tuple(source.times),
                    reused=counts.reused,
                    notices=tuple(self._notices),
                    stages={**counts.seconds, "worker": time.perf_counter() - begun},
                )

    def _open(self) -> Engine:
        if self._engine is None:
            setting = self._setting
            choices = choose_devices(setting.device)
            self._engine = engine_for(
                setting.model, setting.info, setting.target, setting.device, choices, self._notices.append
            )
        return self._engine
