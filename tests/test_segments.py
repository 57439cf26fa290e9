"""Jobs in segments: whatever interrupts them, the output is that of an unbroken run, and nothing is computed twice."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcan_video.engine.torch_engine import TorchEngine
from rcan_video.errors import DeviceError, InputError, Interrupted, OutOfMemory, OutputError, UsageError
from rcan_video.frames import ColorTags
from rcan_video.job import upscale
from rcan_video.media.decode import Source, probe
from rcan_video.media.files import PartFile
from rcan_video.media.index import read_index
from rcan_video.options import DeviceOptions, EncodeOptions, FrameOptions, Options
from rcan_video.progress import Silent
from rcan_video.segments import job as segments_job
from rcan_video.segments.home import home
from rcan_video.segments.plan import cut
from rcan_video.segments.run import Feed
from rcan_video.segments.store import JobFolder
from tests.clips import damage, make_clip, needs_encoder, read_packets, read_video

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

    def update(self, done: int, reused: int = 0) -> None:
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


def test_precision_and_batch_belong_to_the_device_and_not_to_the_job(clip: Path, tmp_path: Path) -> None:
    """Left to the engine they may be others on another machine, where the job may be carried on."""
    job = options(clip, tmp_path / "out.mp4", device=DeviceOptions("cpu", batch=2, threads=1, precision="bf16"))
    interrupt(job, 25)
    report = upscale(replace(job, device=replace(job.device, precision="single", batch=1)))
    assert (report.kept, report.frames_out) == (20, FRAMES)


def test_the_sentence_says_how_much_is_kept(clip: Path, tmp_path: Path) -> None:
    job = options(clip, tmp_path / "out.mp4")
    with pytest.raises(Interrupted, match=r"^interrupted: 20 of 45 frames are kept in .*out\.mp4\.rcan$"):
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
    resume = Source.resume
    monkeypatch.setattr(Source, "resume", lambda self, mark: opened.append(resume(self, mark)) or opened[-1])
    upscale(job)
    assert opened == [True]


@pytest.mark.parametrize("container", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("codec", "pix_fmt", "settings"),
    [
        ("libx264", "yuv420p", {"bf": "2", "threads": "1"}),
        ("libx264", "yuv444p10le", {"threads": "1"}),
        ("libx265", "yuv420p10le", {"x265-params": "pools=1:frame-threads=1:bframes=3"}),
        ("libsvtav1", "yuv420p", {"svtav1-params": "lp=1"}),
        ("libvpx-vp9", "yuv420p", {"cpu-used": "8", "threads": "1"}),
        ("ffv1", "yuv422p10le", {}),
        ("prores_ks", "yuv422p10le", {}),
    ],
)
@pytest.mark.parametrize("times", ["even", "uneven, from 10 s on"])
def test_every_encoder_in_segments(
    tmp_path: Path, container: str, codec: str, pix_fmt: str, settings: dict[str, str], times: str
) -> None:
    """All frames with all times, those at the seams included, and the same again after an interruption."""
    needs_encoder(codec)
    container = ".mov" if codec == "prores_ks" else container
    size = (64, 64)
    pts = [k * 512 for k in range(34)] if times == "even" else [128_000 + 400 * k + 37 * (k % 3) for k in range(34)]
    source = make_clip(
        tmp_path / "in.mkv", codec="ffv1", pix_fmt=pix_fmt, size=size, pts=pts, time_base=Fraction(1, 12_800), audio=1
    )
    encode = EncodeOptions(codec=codec, options=settings)
    wanted = unbroken(source, tmp_path / f"whole{container}", encode=encode)
    job = options(source, tmp_path / f"out{container}", encode=encode)
    interrupt(job, 22)
    assert upscale(job).kept == 20
    found = read_video(tmp_path / f"out{container}")
    assert_same(found, wanted)
    began = [at for at, _ in read_video(source)]
    assert len(found) == 34
    for (at, _), source_at in zip(found, began, strict=True):
        assert at is not None and source_at is not None
        assert abs(at - source_at) < Fraction(1, 1000)


@pytest.mark.parametrize(("seconds", "kept"), [(1, 20), (20, 0)])
def test_frames_that_lie_far_apart_in_fine_ticks(tmp_path: Path, seconds: int, kept: int) -> None:
    """Slides and screens: a segment counts in the source's ticks, and MP4 in 32 bits."""
    times = [k * 10_000_000 * seconds for k in range(FRAMES)]
    source = make_clip(
        tmp_path / "in.nut", codec="ffv1", size=SIZE, pts=times, rate=25, time_base=Fraction(1, 10_000_000)
    )
    job = options(source, tmp_path / "out.mkv")
    interrupt(job, 25)
    assert upscale(job).kept == kept
    assert [time for time, _ in read_video(tmp_path / "out.mkv")] == [k * seconds for k in range(FRAMES)]


@pytest.mark.parametrize("tags", [ColorTags(range=1), ColorTags(1, 1, 1, 1), ColorTags(9, 9, 16, 2)])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_the_join_keeps_the_colour_tags(tmp_path: Path, codec: str, tags: ColorTags) -> None:
    """A range alone is not in the stream of H.264: the container has to say it."""
    needs_encoder(codec)
    source = make_clip(tmp_path / "in.mkv", codec="ffv1", size=(64, 64), frames=3, tags=tags)
    upscale(options(source, tmp_path / "out.mkv", encode=EncodeOptions(codec=codec)))
    found = probe(str(tmp_path / "out.mkv")).color.tags
    assert replace(found, siting=None) == tags


@pytest.mark.parametrize("kind", ["elementary", "avi", "cfr"])
def test_where_times_cannot_be_trusted_frames_are_counted(tmp_path: Path, kind: str) -> None:
    changes: dict[str, object] = {}
    if kind == "elementary":
        source = make_clip(tmp_path / "in.h264", size=SIZE, frames=FRAMES, options={"g": "6"})
    elif kind == "avi":
        source = make_clip(tmp_path / "in.avi", codec="mpeg4", size=SIZE, frames=FRAMES, options={"g": "6"})
    else:
        source = make_clip(tmp_path / "in.mp4", size=SIZE, frames=30, options={"g": "6"})
        changes["frames"] = FrameOptions(fps_mode="cfr", fps=Fraction(40))
    wanted = unbroken(source, tmp_path / "whole.mkv", **changes)
    job = options(source, tmp_path / "out.mkv", **changes)
    interrupt(job, 25)
    assert json.loads((home(job.output, None) / "plan.json").read_text())["by_pts"] is False
    report = upscale(job)
    assert report.kept == 20
    assert report.frames_in == (30 if kind == "cfr" else FRAMES)
    assert_same(read_video(tmp_path / "out.mkv"), wanted)


@pytest.mark.parametrize("frames", [FrameOptions(), FrameOptions("off", "cfr", Fraction(40))])
def test_a_header_that_promises_a_thousand_years(tmp_path: Path, frames: FrameOptions) -> None:
    source = make_clip(tmp_path / "in.mkv", size=SIZE, frames=30, options={"g": "6"})
    content = source.read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # Duration, eight bytes, in milliseconds
    source.write_bytes(content[:at] + struct.pack(">d", 3e13) + content[at + 8 :])
    job = options(source, tmp_path / "out.mp4", frames=frames)
    interrupt(job, 25)
    assert len(json.loads((home(job.output, None) / "plan.json").read_text())["starts"]) < 6
    assert upscale(job).frames_out == (48 if frames.fps else 30)


def test_a_plan_is_bounded() -> None:
    assert len(cut({}, 24, 10**12, None)) == 100_000


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("number", [14, 31])
def test_damage_is_told_however_often_the_job_was_interrupted(tmp_path: Path, suffix: str, number: int) -> None:
    whole = make_clip(tmp_path / f"in{suffix}", size=SIZE, frames=FRAMES, options={"g": "6"})
    source = damage(whole, number)
    wanted_report = upscale(options(source, tmp_path / "whole.mkv"))
    assert wanted_report.damaged
    job = options(source, tmp_path / "out.mkv")
    interrupt(job, 25)
    interrupt(job, 35)
    report = upscale(job)
    assert (report.damaged, report.skipped_packets, report.concealed_frames, report.frames_out) == (
        True,
        wanted_report.skipped_packets,
        wanted_report.concealed_frames,
        wanted_report.frames_out,
    )
    assert_same(read_video(tmp_path / "out.mkv"), read_video(tmp_path / "whole.mkv"))


@pytest.mark.parametrize(("codec", "number"), [("libx264", 23), ("libx265", 17), ("libx265", 19), ("libx265", 21)])
def test_damage_behind_a_landing(tmp_path: Path, codec: str, number: int) -> None:
    """What a decoder shows for what is missing hangs on all that it decoded before, and the frame behind a segment
    may be whole all the same: damage is decoded from the top, and counted once."""
    needs_encoder(codec)
    settings = {"libx264": {"g": "6", "bf": "2"}, "libx265": {"x265-params": "keyint=6:bframes=2:pools=1"}}
    whole = make_clip(tmp_path / "in.mp4", codec=codec, size=SIZE, frames=FRAMES, options=settings[codec])
    source = damage(whole, number)
    wanted = upscale(options(source, tmp_path / "whole.mkv"))
    job = options(source, tmp_path / "out.mkv")
    interrupt(job, 25)
    report = upscale(job)
    assert report.kept
    assert replace(report, output=None, seconds=0, stages={}, kept=0, reused=0) == replace(
        wanted, output=None, seconds=0, stages={}, reused=0
    )
    assert_same(read_video(tmp_path / "out.mkv"), read_video(tmp_path / "whole.mkv"))


def test_alpha_that_is_left_out_stays_out_where_a_landing_fails(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt="yuva420p", size=SIZE, frames=12)
    with Source(str(path), index=read_index(str(path))) as source:
        source.leave_alpha_out()
        mark = [source.mark(frame) for frame in source.frames()][8]
        assert not source.resume(replace(mark, digest="0" * 32))
        assert {len(frame.planes) for frame in source.frames()} == {3}


def test_packets_that_give_no_frame_and_no_error_are_told(tmp_path: Path) -> None:
    """As FFmpeg's decoder of MPEG-2 does with some damage."""
    whole = make_clip(tmp_path / "in.mkv", codec="mpeg2video", size=SIZE, frames=FRAMES, options={"g": "6", "b": "2M"})
    assert upscale(options(whole, tmp_path / "whole.mkv")).notices == ()
    report = upscale(options(damage(whole, 14), tmp_path / "out.mkv"))
    assert (report.frames_out, report.damaged) == (FRAMES - 1, False)
    assert any("1 packets of" in notice and "gave no frame" in notice for notice in report.notices)


def test_a_segment_that_has_vanished_is_computed_again(clip: Path, tmp_path: Path) -> None:
    """Holes in the middle: the decoder lands twice, and the segments around them stay."""
    wanted = unbroken(clip, tmp_path / "whole.mp4")
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 45)
    folder = home(job.output, None)
    (folder / "000001.mp4").unlink()
    (folder / "000002.mp4").write_bytes(b"cut short")
    watcher = Watcher()
    assert upscale(job, watcher).kept == 10
    assert watcher.updates[0] == 11
    assert_same(read_video(tmp_path / "out.mp4"), wanted)


def test_holes_where_frames_are_counted(tmp_path: Path) -> None:
    """No landing there: what is done is passed over."""
    source = make_clip(tmp_path / "in.avi", codec="mpeg4", size=SIZE, frames=FRAMES, options={"g": "6"})
    wanted = unbroken(source, tmp_path / "whole.mkv")
    job = options(source, tmp_path / "out.mkv")
    interrupt(job, 45)
    for name in ("000000.mp4", "000002.mp4"):
        (home(job.output, None) / name).unlink()
    assert upscale(job).kept == 10
    assert_same(read_video(tmp_path / "out.mkv"), wanted)


def test_a_hole_behind_a_segment_without_a_mark(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    """What the input's end left so: the decoder does not start over, it reads on."""
    wanted = unbroken(clip, tmp_path / "whole.mp4")
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 45)
    folder = home(job.output, None)
    (folder / "000001.mp4").unlink()
    done = json.loads((folder / "done.json").read_text())
    done["segments"]["2"]["mark"] = None
    (folder / "done.json").write_text(json.dumps(done))
    openings, real = iter(range(2)), Feed._open
    monkeypatch.setattr(Feed, "_open", lambda self: (next(openings), real(self))[1])
    assert upscale(job).kept == 20
    assert_same(read_video(tmp_path / "out.mp4"), wanted)


def test_what_cannot_be_recorded_is_not_called_kept(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    job, watcher, real = options(clip, tmp_path / "out.mp4"), Watcher(), JobFolder._save_done

    def save_done(self: JobFolder) -> None:
        if len(self.done.records) == 2:
            raise OutputError("the disk is full")
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "_save_done", save_done)
        with pytest.raises(OutputError, match="the disk is full"):
            upscale(job, watcher)
    assert watcher.notices == [
        f"10 of 45 frames are kept in {home(job.output, None)}: the same command goes on from there"
    ]
    assert upscale(job).kept == 10


def test_a_file_system_without_locks(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    monkeypatch.setattr("fcntl.flock", raising(OSError(errno.ENOLCK, "No locks available")))
    with pytest.raises(OutputError, match=r"has no locks \(No locks available\): name a --work-dir"):
        upscale(options(clip, tmp_path / "out.mp4"))


@pytest.mark.parametrize("field", ["frames", "first", "end"])
def test_a_number_beyond_all_bounds_is_damage(clip: Path, tmp_path: Path, field: str) -> None:
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 15)
    records = home(job.output, None) / "done.json"
    done = json.loads(records.read_text())
    done["segments"]["0"]["encoded"][field] = 10**30
    records.write_text(json.dumps(done))
    with pytest.raises(OutputError, match=r"the records in .* are damaged"):
        upscale(job)


@pytest.mark.parametrize("holes", [(0, 2), (1,)])
def test_a_landing_that_gives_another_frame(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, holes: tuple[int, ...]
) -> None:
    """The hash of the frame behind each segment is what counts; where it differs everything is decoded."""
    wanted = unbroken(clip, tmp_path / "whole.mp4")
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 45)
    folder = home(job.output, None)
    for number in holes:
        (folder / f"{number:06}.mp4").unlink()
    done = json.loads((folder / "done.json").read_text())
    for record in done["segments"].values():
        record["mark"]["digest"] = "0" * 32
    (folder / "done.json").write_text(json.dumps(done))
    assert upscale(job).kept == 10 * (3 - len(holes))
    assert_same(read_video(tmp_path / "out.mp4"), wanted)


def test_a_folder_of_that_name_that_is_the_users(clip: Path, tmp_path: Path) -> None:
    folder = home(str(tmp_path / "out.mp4"), None)
    folder.mkdir(mode=0o700)
    (folder / "letters.txt").write_text("dear")
    upscale(options(clip, tmp_path / "out.mp4"))
    assert [path.name for path in folder.iterdir()] == ["letters.txt"]


def test_only_the_join_is_left(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    wanted = unbroken(clip, tmp_path / "whole.mp4")
    job = options(clip, tmp_path / "out.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(segments_job, "join", raising(OutputError("no")))
        with pytest.raises(OutputError, match="no"):
            upscale(job)
    monkeypatch.setattr(Feed, "frames", raising(AssertionError("nothing is left to compute")))
    report = upscale(job)
    assert (report.kept, report.frames_in, report.frames_out) == (FRAMES, FRAMES, FRAMES)
    assert_same(read_video(tmp_path / "out.mp4"), wanted)


def test_a_job_that_ended_with_its_folder_in_place(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    job = options(clip, tmp_path / "out.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "remove", raising(Kill()))
        with pytest.raises(Kill):
            upscale(job)
    whole = (tmp_path / "out.mp4").read_bytes()
    watcher = Watcher()
    report = upscale(job, watcher)
    assert watcher.notices == [f"{job.output} is complete: the run before this one was interrupted after its last step"]
    assert (report.frames_out, report.width, report.height) == (FRAMES, 64, 48)
    assert (tmp_path / "out.mp4").read_bytes() == whole
    assert not home(job.output, None).exists()
    with pytest.raises(OutputError, match="exists already"):
        upscale(job)


@pytest.mark.parametrize("removed", range(1, 9))
def test_a_job_that_was_interrupted_while_its_folder_was_removed(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, removed: int
) -> None:
    """The joined file (which is not there any more), four segments, the plan, the records, the lock. Without the plan
    nobody can tell any more what the folder was, and the output exists already; the folder goes all the same."""
    job, left = options(clip, tmp_path / "out.mp4"), removed
    real, folder = Path.unlink, home(job.output, None)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        nonlocal left
        real(path, missing_ok=missing_ok)
        if path.parent == folder and Path(job.output).exists():
            left -= 1
            if not left:
                raise Kill

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(Kill):
            upscale(job)
    assert folder.exists()
    if removed <= 5:
        assert upscale(job).frames_out == FRAMES
    else:
        with pytest.raises(OutputError, match="exists already"):
            upscale(job)
    assert not folder.exists()
    assert len(read_video(tmp_path / "out.mp4")) == FRAMES


def test_a_restart_that_is_interrupted_mixes_no_jobs(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    """Segments of the job that was given up must not pass for those of the new one, whose plan is there already."""
    other = {"encode": EncodeOptions(codec="libx264", preset="ultrafast", crf=40, options={"threads": "1"})}
    wanted = unbroken(clip, tmp_path / "whole.mp4", **other)
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 25)
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "_save_done", raising(Kill()))
        patch.setattr(JobFolder, "__exit__", lambda self, *_: os.close(self._lock))
        with pytest.raises(Kill):
            upscale(replace(job, restart=True, **other))  # type: ignore[arg-type]
    assert upscale(replace(job, **other)).kept == 0  # type: ignore[arg-type]
    assert_same(read_video(tmp_path / "out.mp4"), wanted)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"encode": EncodeOptions(codec="libx264", preset="ultrafast", crf=30)}, "encoder setting"),
        ({"start": Fraction(1, 5)}, "--start"),
        ({"duration": Fraction(1)}, "--duration"),
        ({"frames": FrameOptions(deinterlace="on")}, "--deinterlace"),
    ],
)
def test_another_job_is_noticed_and_named(clip: Path, tmp_path: Path, changes: dict[str, object], name: str) -> None:
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 25)
    with pytest.raises(UsageError, match=f"20 frames of a job with another {name}.*--restart"):
        upscale(replace(job, **changes))  # type: ignore[arg-type]
    assert upscale(job).kept == 20


def test_another_input_under_the_same_name_is_noticed(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(clip.read_bytes())
    job = options(source, tmp_path / "out.mp4")
    interrupt(job, 25)
    make_clip(source, size=SIZE, frames=FRAMES + 1)
    with pytest.raises(UsageError, match="a job with another input"):
        upscale(job)
    report = upscale(replace(job, restart=True))
    assert (report.kept, report.frames_out) == (0, FRAMES + 1)


def test_another_input_whose_packets_have_the_same_sizes_is_noticed(tmp_path: Path) -> None:
    """As those of uncompressed video, DV and DNxHD do."""
    source = make_clip(tmp_path / "in.mkv", codec="rawvideo", size=SIZE, frames=FRAMES)
    job = options(source, tmp_path / "out.mp4")
    interrupt(job, 25)
    damage(source, 3, b"\x55").replace(source)
    with pytest.raises(UsageError, match="a job with another input"):
        upscale(job)


def test_another_colour_description_is_noticed(tmp_path: Path) -> None:
    """The same packets in the same container, which says something else of them."""
    source = make_clip(tmp_path / "in.mp4", codec="mpeg4", size=SIZE, frames=FRAMES, tags=ColorTags(1, 1, 1, 1))
    job = options(source, tmp_path / "out.mp4")
    interrupt(job, 25)
    content = source.read_bytes()
    at = content.index(b"nclx") + 8  # behind primaries and transfer, two bytes each
    source.write_bytes(content[:at] + b"\x00\x06" + content[at + 2 :])
    with pytest.raises(UsageError, match="another colour description"):
        upscale(job)


def test_two_runs_of_one_job_keep_apart(clip: Path, tmp_path: Path) -> None:
    job = options(clip, tmp_path / "out.mp4")

    class Second(Watcher):
        def update(self, done: int, reused: int = 0) -> None:
            if done == 15:
                with pytest.raises(OutputError, match="another run is at work in"):
                    upscale(job)
            super().update(done)

    upscale(job, Second())
    assert len(read_video(tmp_path / "out.mp4")) == FRAMES


def test_a_run_that_ends_while_another_begins(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    """The second one has found no output at its start, and gets the lock when the first one lets it go."""
    job, watcher, hold = options(clip, tmp_path / "out.mp4"), Watcher(), JobFolder._hold
    monkeypatch.setattr(JobFolder, "_hold", lambda self: (Path(job.output).write_bytes(b"done"), hold(self))[1])
    with pytest.raises(OutputError, match="exists already"):
        upscale(job, watcher)
    assert watcher.updates == []
    assert not home(job.output, None).exists()


def test_remnants_of_a_crash_are_swept_away(clip: Path, tmp_path: Path) -> None:
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 25)
    folder = home(job.output, None)
    for name in ("000002.mp4.part", "000003.mp4", "done.json.part", "joined.part.mp4"):
        (folder / name).write_bytes(b"remnant")
    assert upscale(job).kept == 20
    assert not folder.exists()


def test_a_work_dir_of_ones_own(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    job = options(clip, tmp_path / "out.mp4", work_dir=str(tmp_path / "work"))
    interrupt(job, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["work"]
    assert upscale(job).kept == 20
    assert list((tmp_path / "work").iterdir()) == []
    with pytest.raises(OutputError, match=r"--work-dir .*nowhere is no folder"):
        upscale(replace(job, work_dir=str(tmp_path / "nowhere"), overwrite=True))


def test_a_crash_in_the_join_onto_another_disk_leaves_nothing_for_ever(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    with tempfile.TemporaryDirectory(dir=shm) as work:
        job = options(clip, tmp_path / "out.mp4", work_dir=work)
        with monkeypatch.context() as patch:
            patch.setattr(segments_job.Job, "check", raising(Kill()))
            patch.setattr(PartFile, "__exit__", lambda *_: None)
            with pytest.raises(Kill):
                upscale(job)
        before = set(tmp_path.glob(".out*"))
        assert upscale(job).kept == FRAMES
        assert before - set(tmp_path.glob(".out*"))
        assert list(Path(work).iterdir()) == []


def test_max_time_stops_in_good_order(clip: Path, tmp_path: Path) -> None:
    job = options(clip, tmp_path / "out.mp4")

    class Slow(Watcher):
        def update(self, done: int, reused: int = 0) -> None:
            if done == 25:
                time.sleep(1)

    with pytest.raises(Interrupted, match="--max-time is over: 20 of 45 frames are kept"):
        upscale(replace(job, max_time=Fraction(1)), Slow())
    assert upscale(job).kept == 20


def test_a_link_planted_in_the_folder_is_not_followed(clip: Path, tmp_path: Path) -> None:
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 25)
    folder, precious = home(job.output, None), tmp_path / "precious"
    precious.write_bytes(b"precious")
    for name in ("000002.mp4.part", "done.json.part", "joined.part.mp4", "000002.mp4"):
        (folder / name).symlink_to(precious)
    assert upscale(job).kept == 20
    assert precious.read_bytes() == b"precious"


def test_a_folder_that_others_may_write_into_is_refused(clip: Path, tmp_path: Path) -> None:
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 25)
    folder = home(job.output, None)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    folder.chmod(0o777)
    with pytest.raises(OutputError, match="others may write into"):
        upscale(job)
    moved = folder.rename(tmp_path / "elsewhere")
    moved.chmod(0o700)
    folder.symlink_to(moved)
    with pytest.raises(OutputError, match="is no folder"):
        upscale(job)


@pytest.mark.parametrize("name", ["plan.json", "done.json"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"version": 2}', b'{"version": 1}', b"\xff" * 50, b"[" * 100_000]
)
def test_damaged_records_are_refused_in_a_sentence(clip: Path, tmp_path: Path, name: str, content: bytes) -> None:
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 15)
    (home(job.output, None) / name).write_bytes(content)
    with pytest.raises(OutputError, match=r"the records in .* are damaged or of another version: --restart"):
        upscale(job)
    assert upscale(replace(job, restart=True)).kept == 0


@pytest.mark.parametrize("suffix", [".mkv", ".avi"], ids=["in segments", "in one go"])
@pytest.mark.parametrize("change", ["grows", "shrinks", "vanishes"])
def test_an_input_that_changes_on_the_way(clip: Path, tmp_path: Path, change: str, suffix: str) -> None:
    """Sound that has gone by the time it is copied must not be missing without a word."""
    source, out = tmp_path / "in.mkv", tmp_path / f"out{suffix}"
    make_clip(source, size=SIZE, frames=FRAMES, audio=1, options={"g": "6"})
    content = source.read_bytes()

    class Changer(Watcher):
        def update(self, done: int, reused: int = 0) -> None:
            if done == 15 and change == "vanishes":
                source.unlink()
            elif done == 15:
                source.write_bytes(content + bytes(1000) if change == "grows" else content[: len(content) // 2])

    encode = EncodeOptions(codec="libx264", preset="ultrafast", options={"threads": "1", "bf": "0"})
    job = options(source, out, encode=encode)
    with pytest.raises(InputError, match=r"has changed while it was worked on|there is no such file|has gone while"):
        upscale(job, Changer())
    assert not out.exists()
    source.write_bytes(content)
    assert upscale(job).kept == (FRAMES if suffix == ".mkv" else 0)
    starts_up = 0 if suffix == ".mkv" else 1  # one packet of AAC, which AVI would play
    assert len(read_packets(out, "audio")) == len(read_packets(source, "audio")) - starts_up


@pytest.mark.parametrize("error", [DeviceError("the device was lost"), OutOfMemory("out of memory"), Kill()])
def test_what_a_lost_device_leaves(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, error: BaseException
) -> None:
    device = DeviceOptions("cpu", batch=1, threads=1, engine="torch")
    wanted = unbroken(clip, tmp_path / "whole.mp4", device=device)
    job = options(clip, tmp_path / "out.mp4", device=device)
    real, calls = TorchEngine.result, 0

    def result(self: TorchEngine, ticket: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 25:
            raise error
        return real(self, ticket)

    with monkeypatch.context() as patch:
        patch.setattr(TorchEngine, "result", result)
        watcher = Watcher()
        with pytest.raises(type(error)):
            upscale(job, watcher)
    if isinstance(error, DeviceError):
        assert error.exit_code == 6
        assert watcher.notices[-1].startswith("20 of 45 frames are kept in ")
    assert upscale(job).kept == 20
    assert_same(read_video(tmp_path / "out.mp4"), wanted)


def test_a_size_that_no_file_has_is_no_segment(clip: Path, tmp_path: Path) -> None:
    """Found by Atheris: -1 bytes were those of a file that is missing."""
    job = options(clip, tmp_path / "out.mp4")
    interrupt(job, 25)
    folder = home(job.output, None)
    done = json.loads((folder / "done.json").read_text())
    done["segments"]["1"]["encoded"]["size"] = -1
    (folder / "done.json").write_text(json.dumps(done))
    (folder / "000001.mp4").unlink()
    assert upscale(job).kept == 10


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_killed(clip: Path, tmp_path: Path, signum: int) -> None:
    """The real thing: a process that dies in the middle, and the same command again."""
    wanted = unbroken(clip, tmp_path / "whole.mp4")
    command = [
        sys.executable,
        "-c",
        "import rcan_video.segments.job as job; job.choose_length = lambda *_: 10\n"
        "from rcan_video.commands.upscale import main; main()",
        *("in.mp4", "out.mp4", "--codec", "libx264", "--preset", "ultrafast", "--encoder-opt", "threads=1"),
        *("--device", "cpu", "--batch", "1", "--threads", "1"),
    ]
    (tmp_path / "in.mp4").symlink_to(clip)
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    record = tmp_path / "out.mp4.rcan" / "000001.mp4"
    deadline = time.monotonic() + 120
    while not record.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signum)
    told = process.communicate(timeout=60)[1]
    if signum != signal.SIGKILL and process.returncode == 130:
        assert re.search(r"frames are kept in .*; to go on: rcan-video in\.mp4 out\.mp4 ", told.splitlines()[-1])
    else:
        assert process.returncode in (-signal.SIGKILL, 0)  # 0: it was faster
    if process.returncode:
        done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
        assert (done.returncode, "of an earlier run" in done.stderr) == (0, True)
    assert_same(read_video(tmp_path / "out.mp4"), wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_ctrl_c_behind_the_rename(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    job, commit = options(clip, tmp_path / "out.mp4"), PartFile.commit
    with monkeypatch.context() as patch:
        patch.setattr(PartFile, "commit", lambda self: (commit(self), raising(KeyboardInterrupt())()))
        with pytest.raises(Interrupted, match="45 of 45 frames are kept"):
            upscale(job)
    watcher = Watcher()
    assert upscale(job, watcher).frames_out == FRAMES
    assert "is complete" in watcher.notices[0]


def test_ctrl_c_while_the_folder_is_removed(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(JobFolder, "remove", raising(KeyboardInterrupt()))
    assert upscale(options(clip, tmp_path / "out.mp4")).frames_out == FRAMES


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_job_that_ended_with_its_folder_in_place_and_another_input(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, overwrite: bool
) -> None:
    """What is there is not what is asked for now."""
    with monkeypatch.context() as patch:
        patch.setattr(JobFolder, "remove", raising(Kill()))
        with pytest.raises(Kill):
            upscale(options(clip, tmp_path / "out.mp4"))
    other = make_clip(tmp_path / "other.mp4", size=SIZE, frames=12)
    job = options(other, tmp_path / "out.mp4", overwrite=overwrite)
    if not overwrite:
        with pytest.raises(OutputError, match="exists already"):
            upscale(job)
    else:
        assert upscale(job).frames_out == 12
    assert not home(job.output, None).exists()


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> Any:
        raise error

    return fail


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
def test_a_status_line_on_request(clip: Path, tmp_path: Path) -> None:
    """The process is asked when it has announced itself, and goes on."""
    command = [sys.executable, "-m", "rcan_video", str(clip), "out.mp4", "--device", "cpu", "--threads", "1"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = [process.stderr.readline()]
        process.send_signal(signal.SIGUSR1)
        told += process.stderr.readlines()
        assert process.wait(timeout=60) == 0
    assert any(line.startswith("rcan-video: frame ") and "/45, " in line for line in told)


def test_a_picture_beyond_the_limit_is_refused(clip: Path, tmp_path: Path) -> None:
    job = options(clip, tmp_path / "out.mp4", max_pixels=SIZE[0] * SIZE[1] - 1)
    with pytest.raises(InputError, match=r"has a picture of 32x24: raise --max-pixels above 767"):
        upscale(job)
    upscale(replace(job, max_pixels=SIZE[0] * SIZE[1]))
