"""Segments computed elsewhere: whatever happens there, the output is that of a job that was computed here.

The workers are real, the cluster is a table at which they sit: parcels and answers pass over it as bytes.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcan_video import job as main_job
from rcan_video.distributed import driver
from rcan_video.distributed.crew import Lost
from rcan_video.distributed.driver import Driver
from rcan_video.distributed.work import Answer, Setting, Worker
from rcan_video.errors import DeviceError, Interrupted, UsageError, WeightsError
from rcan_video.job import upscale
from rcan_video.media.parcel import Parcel
from rcan_video.options import DeviceOptions, EncodeOptions, FrameOptions, Options, Report
from rcan_video.progress import Silent
from rcan_video.segments import job as segments_job
from rcan_video.segments.home import home
from tests.clips import damage, make_clip, read_packets, read_video

SIZE = (32, 24)
LENGTH = 10
FRAMES = 75  # six segments of ten and one of fifteen


class Kill(BaseException):
    """What no handler expects, as if the process were gone."""


class Notes(Silent):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


@dataclass
class Table:
    """A ``Crew`` of ``size`` workers, one of which answers in each ``wait``: the first, or as ``order`` chooses among
    those at work. ``on_answer`` may put another in its place, or raise."""

    size: int = 3
    room: int = 1 << 30
    order: Callable[[list[int]], int] = min
    on_answer: Callable[[Answer], Answer | Lost] = lambda answer: answer
    computed: list[int] = field(default_factory=list)
    most_bytes: int = 0
    closed: bool = False
    _names: int = 0
    _workers: dict[int, Worker] = field(default_factory=dict)
    _work: dict[int, Parcel] = field(default_factory=dict)

    def open(self, setting: Setting) -> None:
        setting = replace(setting, device=replace(setting.device, device="cpu"))
        self._setting = pickle.dumps(setting)

    def describe(self) -> str:
        return "a table"

    def idle(self) -> list[int]:
        while len(self._workers) < self.size:
            self._workers[self._names] = Worker(pickle.loads(self._setting))
            self._names += 1
        return [name for name in self._workers if name not in self._work]

    def send(self, worker: int, parcel: Parcel) -> None:
        assert worker not in self._work
        self._work[worker] = pickle.loads(pickle.dumps(parcel))
        self.most_bytes = max(self.most_bytes, sum(len(parcel.data) for parcel in self._work.values()))

    def wait(self, seconds: float) -> list[tuple[int, Answer | Lost]]:
        if not self._work:
            return []
        name = self.order(list(self._work))
        parcel = self._work.pop(name)
        answer = pickle.loads(pickle.dumps(self._workers[name].compute(parcel)))
        self.computed.append(parcel.number)
        found = self.on_answer(answer)
        if isinstance(found, Lost):
            self._workers.pop(name).close()
        return [(name, found)]

    def close(self) -> None:
        self.closed = True
        for worker in self._workers.values():
            worker.close()


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_job, "choose_length", lambda *_: LENGTH)
    monkeypatch.setattr(Driver, "length", lambda *_: LENGTH)


@pytest.fixture
def seat(monkeypatch: pytest.MonkeyPatch) -> Callable[[Table], Table]:
    """Puts a table in the place of the cluster."""

    def arrange(table: Table) -> Table:
        monkeypatch.setattr(main_job, "_elsewhere", lambda job, index: Driver(job, index, table))
        return table

    return arrange


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distributed")
    return make_clip(folder / "in.mp4", size=SIZE, frames=FRAMES, audio=1, options={"g": "6", "bf": "2"})


def options(clip: Path, out: Path, **changes: object) -> Options:
    quick = Options(
        str(clip),
        str(out),
        device=DeviceOptions("cpu", batch=1, threads=1, engine="torch"),
        encode=EncodeOptions(codec="libx264", preset="ultrafast", options={"threads": "1"}),
        ray="local",
    )
    return replace(quick, **changes)  # type: ignore[arg-type]


def here(clip: Path, out: Path, **changes: object) -> Report:
    return upscale(options(clip, out, ray=None, **changes))


def assert_same(one: Path, other: Path) -> None:
    """The same frames at the same times, and the same packets beside and behind them."""
    found, wanted = read_video(one), read_video(other)
    assert [time for time, _ in found] == [time for time, _ in wanted]
    for (_, a), (_, b) in zip(found, wanted, strict=True):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_array_equal(p, q)
    assert read_packets(one, "video") == read_packets(other, "video")


def last_first(names: list[int]) -> int:
    return max(names)


@pytest.mark.parametrize("order", [min, max])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_the_output_is_that_of_a_job_computed_here(
    seat: Callable[[Table], Table], clip: Path, tmp_path: Path, order: Any, size: int
) -> None:
    table = seat(Table(size, order=order))
    report = upscale(options(clip, tmp_path / "out.mp4"))
    alone = here(clip, tmp_path / "here.mp4")
    assert (report.frames_in, report.frames_out, report.kept) == (FRAMES, FRAMES, 0)
    assert report.notices == alone.notices
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")
    assert read_packets(tmp_path / "out.mp4", "audio") == read_packets(clip, "audio")
    assert sorted(set(table.computed)) == list(range(7))
    assert table.closed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.mp4", "out.mp4"]


@pytest.mark.parametrize(
    "changes",
    [
        {"start": Fraction(9, 10), "duration": Fraction(8, 5)},
        {"frames": FrameOptions(deinterlace="on")},
        {
            "encode": EncodeOptions(
                codec="libx265", preset="ultrafast", options={"x265-params": "log-level=none:pools=1"}
            )
        },
    ],
)
def test_whatever_the_job(
    seat: Callable[[Table], Table], clip: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    seat(Table(order=max))
    upscale(options(clip, tmp_path / "out.mp4", **changes))
    here(clip, tmp_path / "here.mp4", **changes)
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")


def test_an_uneven_last_frame_lasts_as_long(seat: Callable[[Table], Table], tmp_path: Path) -> None:
    pts = [k * 40 + (k % 3) * 5 for k in range(40)]
    clip = make_clip(
        tmp_path / "in.mp4", size=SIZE, time_base=Fraction(1, 1000), pts=pts, last_duration=700, options={"g": "7"}
    )
    seat(Table())
    upscale(options(clip, tmp_path / "out.mp4"))
    here(clip, tmp_path / "here.mp4")
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")
    assert sum(packet.duration for packet in read_packets(tmp_path / "out.mp4", "video")) > Fraction(2)


def test_a_lost_worker_costs_its_segment_alone(seat: Callable[[Table], Table], clip: Path, tmp_path: Path) -> None:
    lost = iter([True, False, False, True])
    table = seat(Table(on_answer=lambda answer: Lost("its node is gone") if next(lost, False) else answer))
    notes = Notes()
    upscale(options(clip, tmp_path / "out.mp4"), notes)
    here(clip, tmp_path / "here.mp4")
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")
    assert len(table.computed) == 7 + 2
    assert notes.notices.count("a worker is lost (its node is gone): its segment goes to another") == 2


def test_what_workers_say_is_said_once(seat: Callable[[Table], Table], clip: Path, tmp_path: Path) -> None:
    seat(Table(on_answer=lambda answer: replace(answer, node="far", notices=("it goes on in tiles",))))
    notes = Notes()
    upscale(options(clip, tmp_path / "out.mp4"), notes)
    assert notes.notices.count("far: it goes on in tiles") == 1


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (DeviceOptions(engine="openvino", precision="half"), "--precision half is torch's"),
        (DeviceOptions(hwaccel="cuda"), "--hwaccel decodes on this machine, and --ray on others"),
    ],
)
def test_what_contradicts_itself_is_refused_before_anything_is_sent(
    seat: Callable[[Table], Table], clip: Path, tmp_path: Path, device: DeviceOptions, words: str
) -> None:
    table = seat(Table())
    with pytest.raises(UsageError, match=words):
        upscale(options(clip, tmp_path / "out.mp4", device=device))
    assert not table.computed


def test_a_segment_that_kills_its_workers_ends_the_job_and_keeps_the_rest(
    seat: Callable[[Table], Table], clip: Path, tmp_path: Path
) -> None:
    seat(Table(on_answer=lambda answer: Lost("no memory") if answer.number == 4 else answer))
    with pytest.raises(DeviceError, match="segment 4 has lost 3 workers, the last because no memory"):
        upscale(options(clip, tmp_path / "out.mp4"))
    table = seat(Table())
    report = upscale(options(clip, tmp_path / "out.mp4"))
    assert report.kept == FRAMES - LENGTH or report.kept >= 4 * LENGTH
    assert 4 in table.computed
    assert len(table.computed) * LENGTH <= FRAMES - report.kept + 5


def test_workers_that_do_not_come_up(seat: Callable[[Table], Table], clip: Path, tmp_path: Path) -> None:
    class Dead(Table):
        def idle(self) -> list[int]:
            return []

        def wait(self, seconds: float) -> list[tuple[int, Answer | Lost]]:
            return [(0, Lost("no module"))]

    seat(Dead())
    with pytest.raises(
        DeviceError, match=r"workers do not come up \(no module\): is rcan-video installed on every node"
    ):
        upscale(options(clip, tmp_path / "out.mp4"))


def test_an_error_of_a_worker_names_its_node_and_ends_the_job(
    seat: Callable[[Table], Table], clip: Path, tmp_path: Path
) -> None:
    table = Table(on_answer=lambda a: replace(a, data=b"", encoded=None, error=("WeightsError", "they are bad")))
    seat(table)
    with pytest.raises(WeightsError, match=r": they are bad$"):
        upscale(options(clip, tmp_path / "out.mp4"))
    assert table.closed


def test_a_node_with_another_version_is_named(clip: Path, tmp_path: Path, seat: Callable[[Table], Table]) -> None:
    class Old(Table):
        def open(self, setting: Setting) -> None:
            super().open(replace(setting, versions=("0.0", "2", "3")))

    seat(Old())
    with pytest.raises(DeviceError, match=r"the driver 0\.0 2 3: install the same"):
        upscale(options(clip, tmp_path / "out.mp4"))


@pytest.mark.parametrize("at", [1, 3, 6])
@pytest.mark.parametrize("resumed_here", [False, True])
def test_a_driver_that_dies_loses_what_was_under_way(
    seat: Callable[[Table], Table], clip: Path, tmp_path: Path, at: int, resumed_here: bool
) -> None:
    def die(answer: Answer) -> Answer:
        if len(table.computed) > at:
            raise Kill
        return answer

    table = seat(Table(order=max, on_answer=die))
    with pytest.raises(Kill):
        upscale(options(clip, tmp_path / "out.mp4"))
    done = table.computed[:at]
    if resumed_here:
        report = here(clip, tmp_path / "out.mp4")
    else:
        again = seat(Table())
        report = upscale(options(clip, tmp_path / "out.mp4"))
        assert sorted(again.computed) == sorted(set(range(7)) - set(done))
        assert report.kept == sum(15 if number == 6 else 10 for number in done)
    assert report.frames_out == FRAMES
    here(clip, tmp_path / "here.mp4")
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")


def test_a_job_begun_here_goes_on_there(seat: Callable[[Table], Table], clip: Path, tmp_path: Path) -> None:
    class Stop(Silent):
        def update(self, done: int, reused: int = 0) -> None:
            if done == 35:
                raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        upscale(options(clip, tmp_path / "out.mp4", ray=None), Stop())
    table = seat(Table(order=max))
    assert upscale(options(clip, tmp_path / "out.mp4")).kept == 30
    assert sorted(table.computed) == [3, 4, 5, 6]
    here(clip, tmp_path / "here.mp4")
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")


def test_ctrl_c_says_what_is_kept(seat: Callable[[Table], Table], clip: Path, tmp_path: Path) -> None:
    def stop(answer: Answer) -> Answer:
        if len(table.computed) == 3:
            raise KeyboardInterrupt
        return answer

    table = seat(Table(on_answer=stop))
    with pytest.raises(Interrupted, match="20 of 75 frames are kept in"):
        upscale(options(clip, tmp_path / "out.mp4"))
    assert table.closed


def test_max_time(seat: Callable[[Table], Table], clip: Path, tmp_path: Path) -> None:
    seat(Table())
    with pytest.raises(Interrupted, match="--max-time is over"):
        upscale(options(clip, tmp_path / "out.mp4", max_time=Fraction(0)))


@pytest.mark.parametrize("order", [min, max])
@pytest.mark.parametrize("number", [8, 33, 70])
def test_damage_is_met_as_it_would_be_here(
    seat: Callable[[Table], Table], clip: Path, tmp_path: Path, order: Any, number: int
) -> None:
    bad = damage(make_clip(tmp_path / "in.mp4", size=SIZE, frames=FRAMES, options={"g": "6", "bf": "2"}), number)
    seat(Table(order=order))
    notes = Notes()
    report = upscale(options(bad, tmp_path / "out.mp4"), notes)
    alone = here(bad, tmp_path / "here.mp4")
    assert any("is computed here: " in text for text in notes.notices)
    counted = ("frames_in", "frames_out", "skipped_packets", "concealed_frames", "damaged", "notices")
    assert [getattr(report, name) for name in counted] == [getattr(alone, name) for name in counted]
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")


@pytest.mark.parametrize("order", [min, max])
def test_a_landing_that_gives_another_frame(
    seat: Callable[[Table], Table], clip: Path, tmp_path: Path, order: Any
) -> None:
    """Its neighbour knows better, whichever comes first."""
    table = seat(Table(order=order, on_answer=lambda a: replace(a, begin="other") if a.number == 3 else a))
    notes = Notes()
    upscale(options(clip, tmp_path / "out.mp4"), notes)
    assert "segment 3 is computed here: it hangs on what lies before it" in notes.notices
    here(clip, tmp_path / "here.mp4")
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")
    assert table.computed


def test_a_frame_that_is_missing_is_noticed(seat: Callable[[Table], Table], clip: Path, tmp_path: Path) -> None:
    seat(Table(on_answer=lambda a: replace(a, times=a.times[:-1]) if a.number == 2 else a))
    notes = Notes()
    upscale(options(clip, tmp_path / "out.mp4"), notes)
    assert "segment 2 is computed here: its packets do not give the frames that they promise" in notes.notices
    here(clip, tmp_path / "here.mp4")
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")


def test_no_more_is_under_way_than_is_said(seat: Callable[[Table], Table], clip: Path, tmp_path: Path) -> None:
    table = seat(Table(size=20, room=14_000))
    upscale(options(clip, tmp_path / "out.mp4"))
    assert 0 < table.most_bytes <= 14_000
    free = seat(Table(size=20))
    upscale(options(clip, tmp_path / "again.mp4"))
    assert free.most_bytes > 14_000


def test_a_straggler_is_started_a_second_time_and_the_first_answer_wins(
    monkeypatch: pytest.MonkeyPatch, seat: Callable[[Table], Table], clip: Path, tmp_path: Path
) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(driver.time, "monotonic", lambda: float(next(clock)))

    def stuck(names: list[int]) -> int:
        return max(names) if len(names) > 1 else names[0]  # worker 0 answers only where it is alone

    table = seat(Table(size=2, order=stuck))
    upscale(options(clip, tmp_path / "out.mp4"))
    assert sorted(set(table.computed)) == list(range(7))
    assert table.computed.count(0) <= 2
    assert table.computed[-1] == 0
    assert len(table.computed) == 7  # the other copy of segment 0 never answered
    here(clip, tmp_path / "here.mp4")
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")


def test_jobs_that_cannot_be_sent_away(clip: Path, tmp_path: Path, seat: Callable[[Table], Table]) -> None:
    seat(Table())
    avi = make_clip(tmp_path / "in.avi", codec="mpeg4", size=SIZE)
    out = tmp_path / "out.mp4"
    for job, sentence in (
        (options(clip, out, input="-"), "name files as input and output"),
        (options(clip, out, output="-", format="nut"), "name files as input and output"),
        (options(clip, out, frames=FrameOptions(fps_mode="cfr")), "--fps-mode cfr counts frames"),
        (options(avi, out), "cannot be trusted"),
        (options(clip, tmp_path / "out.ts"), "mpegts was not tried with segments"),
    ):
        with pytest.raises(UsageError, match=sentence) as caught:
            upscale(job)
        assert str(caught.value).endswith("leave --ray out")
    assert not out.exists() and not home(str(out), None).exists()


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"^--ray needs Ray \(.*\): pip install 'rcan-video\[ray\]'$"):
        upscale(options(clip, tmp_path / "out.mp4"))
    with pytest.raises(UsageError, match="--ray gives each worker a device of its own: leave --device cpu,cpu out"):
        upscale(options(clip, tmp_path / "out.mp4", device=DeviceOptions("cpu,cpu")))


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    pytest.importorskip("ray", reason="the extra ray is not installed here")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        begin = "import rcan_video.segments.job as j; from rcan_video.distributed.driver import Driver\n"
        begin += "j.choose_length = Driver.length = lambda *_: 10\n"
        begin += "from rcan_video.commands.upscale import main; main()"
        line = [sys.executable, "-c", begin, *arguments, "--threads", "1", "-d", "cpu", "--preset", "ultrafast"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        return subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=300
        )

    yield call


@pytest.mark.slow
def test_on_a_real_cluster(
    command: Callable[..., subprocess.CompletedProcess[str]], clip: Path, tmp_path: Path
) -> None:
    done = command(str(clip), str(tmp_path / "out.mp4"), "--ray", "local", "-v")
    assert done.returncode == 0, done.stderr
    assert ", Ray, " in done.stderr and "workers of 1 CPU on 1 node" in done.stderr
    assert done.stdout == ""
    assert all(line.startswith(("rcan-video: ", "  ")) for line in done.stderr.splitlines()), done.stderr
    alone = command(str(clip), str(tmp_path / "here.mp4"))
    assert alone.returncode == 0, alone.stderr
    assert_same(tmp_path / "out.mp4", tmp_path / "here.mp4")


@pytest.mark.slow
def test_no_cluster_at_that_address(
    command: Callable[..., subprocess.CompletedProcess[str]], clip: Path, tmp_path: Path
) -> None:
    done = command(str(clip), str(tmp_path / "out.mp4"), "--ray", "127.0.0.1:9", "-q")
    assert done.returncode == 6
    assert done.stderr.startswith("rcan-video: there is no Ray cluster at 127.0.0.1:9 (")
    assert done.stderr.count("\n") == 1
