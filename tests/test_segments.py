"""Jobs in segments: whatever interrupts them, the output is that of an unbroken run, and nothing is computed twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcan_video.errors import Interrupted
from rcan_video.job import upscale
from rcan_video.options import DeviceOptions, EncodeOptions, Options
from rcan_video.progress import Silent
from rcan_video.segments import job as segments_job
from rcan_video.segments.home import home
from rcan_video.segments.run import Feed
from tests.clips import make_clip, read_packets, read_video

SIZE = (32, 24)
LENGTH = 10
FRAMES = 45  # three segments of ten and one of fifteen: the last five are a scrap


class Kill(BaseException):
    """What no handler expects, as if the process were gone."""


class Watcher(Silent):
    """Raises ``error`` once ``frames`` frames are written; notes what it is told."""

    def __init__(self, frames: int | None = None, error: BaseException | None = None) -> None:
        self.frames, self.error = frames, error
        self.kept = 0
        self.updates: list[int] = []
        self.notices: list[str] = []

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        self.kept = kept

    def update(self, done: int) -> None:
        self.updates.append(done)
        if self.frames is not None and done >= self.frames:
            raise self.error or KeyboardInterrupt

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_job, "choose_length", lambda *_: LENGTH)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segments")
    return make_clip(folder / "in.mp4", size=SIZE, frames=FRAMES, audio=1, options={"g": "6"})


def options(clip: Path, out: Path, **changes: object) -> Options:
    quick = Options(
        str(clip),
        str(out),
        device=DeviceOptions("cpu", batch=1, threads=1),
        encode=EncodeOptions(codec="libx264", preset="ultrafast", options={"threads": "1"}),
    )
    return replace(quick, **changes)  # type: ignore[arg-type]


def unbroken(clip: Path, out: Path, **changes: object) -> list[tuple[Fraction | None, Any]]:
    upscale(options(clip, out, **changes))
    return read_video(out)


def interrupt(job: Options, frames: int) -> Watcher:
    """Run ``job`` until ``frames`` frames are written, those kept included."""
    watcher = Watcher(frames)
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        upscale(job, watcher)
    assert not Path(job.output).exists()
    return watcher


def assert_same(found: list[tuple[Fraction | None, Any]], wanted: list[tuple[Fraction | None, Any]]) -> None:
    assert [time for time, _ in found] == [time for time, _ in wanted]
    for (_, one), (_, other) in zip(found, wanted, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("at", [1, 10, 11, 25, 41, 45])
def test_an_interrupted_job_goes_on(clip: Path, tmp_path: Path, at: int) -> None:
    wanted = unbroken(clip, tmp_path / "whole.mp4")
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, at)
    kept = min(30, (at - 1) // LENGTH * LENGTH)
    folder = home(job.output, None)
    assert folder.exists() == (kept > 0)
    watcher = Watcher()
    report = upscale(job, watcher)
    assert (watcher.kept, report.kept) == (kept, kept)
    assert watcher.updates == list(range(kept + 1, FRAMES + 1))
    assert (report.frames_in, report.frames_out) == (FRAMES, FRAMES)
    assert_same(read_video(tmp_path / "out.mp4"), wanted)
    assert read_packets(tmp_path / "out.mp4", "audio") == read_packets(clip, "audio")
    assert not folder.exists()


def test_interrupted_again_and_again(clip: Path, tmp_path: Path) -> None:
    wanted = unbroken(clip, tmp_path / "whole.mp4")
    job = options(clip, tmp_path / "out.mp4")
    for at in (12, 15, 22, 33):
        interrupt(job, at)
    report = upscale(job)
    assert report.kept == 30
    assert_same(read_video(tmp_path / "out.mp4"), wanted)


def test_the_sentence_says_how_much_is_kept(clip: Path, tmp_path: Path) -> None:
    job = options(clip, tmp_path / "out.mp4")
    with pytest.raises(Interrupted, match=r"interrupted: 20 of 45 frames are kept in .*run the same command again"):
        upscale(job, Watcher(25))


def test_an_interrupted_job_lands_instead_of_decoding_from_the_top(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 35)
    feeds: list[Feed] = []
    real = Feed.frames

    def frames(self: Feed) -> Iterator[Any]:
        feeds.append(self)
        for frame in real(self):
            assert frame.index >= 30
            yield frame

    monkeypatch.setattr(Feed, "frames", frames)
    opened = []
    from rcan_video.media.decode import Source

    resume = Source.resume
    monkeypatch.setattr(Source, "resume", lambda self, mark: opened.append(resume(self, mark)) or opened[-1])
    upscale(job)
    assert opened == [True]
