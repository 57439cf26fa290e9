import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import make_clip, read_packets, read_video

import rcan_video
from rcan_video import (
    DeviceOptions,
    EncodeOptions,
    ModelOptions,
    Options,
    Report,
    StreamOptions,
    prepare,
    probe,
    upscale,
)
from rcan_video.engine.base import Engine, Ticket
from rcan_video.errors import (
    DeviceError,
    InputError,
    InputHangs,
    OutputError,
    UsageError,
    VerificationError,
    WeightsError,
)
from rcan_video.frames import ColorTags, Frame, FrameBatch
from rcan_video.job import open_job
from rcan_video.media.decode import Source
from rcan_video.media.segment import SegmentWriter
from rcan_video.prepare import Job
from rcan_video.progress import Silent, StreamRow

SIZE = (48, 32)
FRAMES = 6
BT709 = ColorTags(matrix=1, primaries=1, transfer=1, range=1)
QUICK = EncodeOptions(preset="ultrafast")


class Listener(Silent):
    """Keeps what a job tells."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int | None]] = []
        self.done: list[int] = []
        self.notices: list[str] = []
        self.details: list[str] = []
        self.rows: list[StreamRow] = []
        self.finished: list[Report | None] = []

    def start(self, description: str, total: int | None, kept: int = 0) -> None:
        self.started.append((description, total))

    def streams(self, rows: Sequence[StreamRow]) -> None:
        self.rows += rows

    def update(self, done: int, reused: int = 0) -> None:
        self.done.append(done)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def detail(self, text: str) -> None:
        self.details.append(text)

    def finish(self, report: Report | None) -> None:
        self.finished.append(report)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("job") / "in.mp4", size=SIZE, frames=FRAMES, audio=2, tags=BT709)


def options(clip: Path, out: Path, **changes: object) -> Options:
    """A quick job. One thread: pictures this small gain nothing from more, which only spin."""
    quick = Options(str(clip), str(out), device=DeviceOptions("cpu", threads=1), encode=QUICK)
    return replace(quick, **changes)  # type: ignore[arg-type]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("pix_fmt", "written", "notices"),
    [
        ("yuv422p10le", "yuv422p10le", ()),
        ("gray12le", "gray12le", ()),
        ("yuv411p", "yuv411p", ()),
        ("bgr0", "yuv444p", ("rawvideo cannot store gbrp: the output is yuv444p",)),
        ("gbrp16le", "yuv444p16le", ("rawvideo cannot store gbrp16le: the output is yuv444p16le",)),
        ("yuv440p", "yuv444p", ("rawvideo cannot store yuv440p: the output is yuv444p",)),
    ],
)
def test_y4m_gets_what_it_has_a_name_for(tmp_path: Path, pix_fmt: str, written: str, notices: tuple[str, ...]) -> None:
    clip = make_clip(tmp_path / "in.mkv", codec="ffv1", pix_fmt=pix_fmt, size=SIZE, frames=2)
    report = upscale(options(clip, tmp_path / "out.y4m", encode=EncodeOptions()))
    assert report.notices == notices
    assert probe(str(tmp_path / "out.y4m")).pix_fmt == written


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_output_differs_in_the_pictures_size_alone(clip: Path, tmp_path: Path, scale: int) -> None:
    output = tmp_path / "out.mp4"
    report = upscale(options(clip, output, model=ModelOptions(scale=scale)))
    source, result = read_video(clip), read_video(output)
    assert [time for time, _ in result] == [time for time, _ in source]
    assert all(planes[0].shape == (SIZE[1] * scale, SIZE[0] * scale) for _, planes in result)
    for track in range(2):
        assert read_packets(output, "audio", track) == read_packets(clip, "audio", track)
    before, after = probe(str(clip)), probe(str(output))
    assert after.color.tags == before.color.tags
    assert (after.pix_fmt, after.rate, after.time_base) == (before.pix_fmt, before.rate, before.time_base)
    assert [s.language for s in after.of_kind("audio")] == ["eng", "deu"]
    assert left_in(tmp_path) == ["out.mp4"]

    assert report.output == output
    assert report.frames_in == report.frames_out == FRAMES
    assert (report.width, report.height) == (SIZE[0] * scale, SIZE[1] * scale)
    assert report.stages.keys() == {"decode", "network", "encode"}
    assert 0 < max(report.stages.values()) < report.seconds
    assert report.fps == pytest.approx(FRAMES / report.seconds)
    assert (report.skipped_packets, report.notices) == (0, ())


def test_the_picture_is_the_input_enlarged(clip: Path, tmp_path: Path) -> None:
    """Against pixel repetition, and against the neighbouring frame, which a frame too early or late would match."""
    upscale(options(clip, tmp_path / "out.mkv", encode=EncodeOptions(codec="ffv1")))
    source = [planes[0].astype(float) for _, planes in read_video(clip)]
    result = [planes[0].astype(float) for _, planes in read_video(tmp_path / "out.mkv")]
    for k, large in enumerate(result):
        small = large.reshape(SIZE[1], 2, SIZE[0], 2).mean(axis=(1, 3))
        errors = [abs(small - other).mean() for other in source]
        assert min(range(FRAMES), key=errors.__getitem__) == k
        assert errors[k] < 4


def test_variable_frame_rate_survives(tmp_path: Path) -> None:
    times = [0, 1, 5, 6, 50, 51]
    clip = make_clip(tmp_path / "in.mkv", size=SIZE, pts=times, time_base=Fraction(1, 100), audio=1)
    upscale(options(clip, tmp_path / "out.mkv"))
    assert [time for time, _ in read_video(tmp_path / "out.mkv")] == [Fraction(t, 100) for t in times]


def test_a_part_of_the_input(clip: Path, tmp_path: Path) -> None:
    report = upscale(options(clip, tmp_path / "out.mp4", start=Fraction(2, 25), duration=Fraction(3, 25)))
    assert report.frames_out == 3
    assert [time for time, _ in read_video(tmp_path / "out.mp4")] == [Fraction(k, 25) for k in range(3)]


def test_what_a_listener_hears(clip: Path, tmp_path: Path) -> None:
    heard = Listener()
    report = upscale(options(clip, tmp_path / "out.mp4"), heard)
    ((description, total),) = heard.started
    assert description.startswith("in.mp4 48x32 to 96x64, fast, ")
    assert total == FRAMES
    assert heard.done[-1] == FRAMES and heard.done == sorted(heard.done)
    assert heard.finished == [report]
    details = "\n".join(heard.details)
    for word in ("h264", "yuv420p", "25 frames/s", "libx264", "preset=ultrafast", "fast-x2.safetensors"):
        assert word in details
    assert heard.notices == []
    assert heard.rows == [
        ("video 0", "h264 48x32 yuv420p", "libx264 96x64 yuv420p", ""),
        ("audio 1", "aac 2 ch, 48000 Hz eng", "copied", ""),
        ("audio 2", "aac 2 ch, 48000 Hz deu", "copied", ""),
    ]


def test_notices_are_told_before_the_first_frame_and_kept_in_the_report(tmp_path: Path) -> None:
    """Odd sizes are cut for H.264, and a subtitle stream is converted."""
    video = make_clip(tmp_path / "video.mkv", size=(33, 31), frames=FRAMES, pix_fmt="yuv420p", codec="ffv1")
    clip = with_subtitles(tmp_path / "in.mkv", video)

    class Order(Listener):
        def update(self, done: int, reused: int = 0) -> None:
            assert (len(self.notices), len(self.rows)) == (1, 2)
            super().update(done)

    heard = Order()
    report = upscale(options(clip, tmp_path / "out.mp4", model=ModelOptions(scale=3)), heard)
    assert (report.width, report.height) == (98, 92)
    cut = "libx264 needs even sizes: 99x93 is cut to 98x92"
    assert heard.notices == [cut]
    assert heard.rows[1] == ("subtitle 1", "srt", "mov_text", "the text subtitles of mp4")
    converted = "subtitle stream 1 (srt) is converted to mov_text: the text subtitles of mp4"
    assert report.notices == (converted, cut)


def with_subtitles(path: Path, video: Path) -> Path:
    """``video`` with one subtitle of two seconds beside it."""
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,000 --> 00:00:02,000\nHello\n")
    with av.open(str(path), "w") as output, av.open(str(video)) as pictures, av.open(str(text)) as words:
        targets = [output.add_stream_from_template(file.streams[0]) for file in (pictures, words)]
        for target, file in zip(targets, (pictures, words), strict=True):
            for packet in file.demux():
                if packet.size:
                    packet.stream = target
                    output.mux(packet)
    return path


class Failing:
    """An engine that works for two batches and then fails."""

    def __init__(self, engine: Engine, error: BaseException) -> None:
        self._engine = engine
        self._error = error
        self._submitted = 0
        self.closed = False

    @property
    def batch(self) -> int:
        return 1

    def describe(self) -> str:
        return "failing"

    def submit(self, batch: FrameBatch) -> Ticket:
        self._submitted += 1
        if self._submitted > 2:
            raise self._error
        return self._engine.submit(batch)

    def result(self, ticket: Ticket) -> FrameBatch:
        return self._engine.result(ticket)

    def close(self) -> None:
        self.closed = True
        self._engine.close()


@pytest.mark.parametrize("error", [DeviceError("the device was lost"), KeyboardInterrupt(), RuntimeError("a bug")])
@pytest.mark.parametrize("old", [None, b"the file that was there before"])
def test_a_failure_midway_leaves_what_was_there(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, error: BaseException, old: bytes | None
) -> None:
    engines = []
    opened = prepare.open_devices

    def open_failing(*args: object) -> Failing:
        engines.append(Failing(opened(*args), error))  # type: ignore[arg-type]
        return engines[-1]

    monkeypatch.setattr(prepare, "open_devices", open_failing)
    output, heard = tmp_path / "out.mp4", Listener()
    if old is not None:
        output.write_bytes(old)
    with pytest.raises(type(error)) as caught:
        upscale(options(clip, output, overwrite=True), heard)
    assert caught.value is error
    assert engines[0].closed
    assert heard.finished == [None]
    assert left_in(tmp_path) == ([] if old is None else ["out.mp4"])
    assert old is None or output.read_bytes() == old


@pytest.mark.parametrize("old", [None, b"the file that was there before"])
def test_what_fails_its_check_never_gets_the_name(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, old: bytes | None
) -> None:
    output = tmp_path / "out.mp4"
    if old is not None:
        output.write_bytes(old)

    def refuse(path: Path, *_: object) -> None:
        assert path.exists() and path != output
        raise VerificationError("not what was promised")

    monkeypatch.setattr(prepare, "verify", refuse)
    with pytest.raises(VerificationError, match=r"promised; what was written is kept as .*out\.unverified\.mp4$"):
        upscale(options(clip, output, overwrite=True))
    # The frames are there: once the reason is gone, the same command only joins them.
    assert left_in(tmp_path) == [*([] if old is None else ["out.mp4"]), "out.mp4.rcan", "out.unverified.mp4"]
    assert old is None or output.read_bytes() == old
    assert len(read_video(tmp_path / "out.unverified.mp4")) == FRAMES


def test_overwriting_replaces_the_old_file_by_the_whole_new_one(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"old")
    checked = []

    def look(*args: object) -> None:
        checked.append(output.read_bytes())

    monkeypatch.setattr(prepare, "verify", look)
    upscale(options(clip, output, overwrite=True))
    assert checked == [b"old"]
    assert len(read_video(output)) == FRAMES
    assert left_in(tmp_path) == ["out.mp4"]


def test_a_file_that_gives_nothing_any_more(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    release = threading.Event()
    real = Source.frames

    def stuck(self: Source) -> Iterator[Frame]:
        yield from itertools.islice(real(self), 3)
        release.wait()

    monkeypatch.setattr(Source, "frames", stuck)
    monkeypatch.setattr(prepare, "_PATIENCE", 0.3)
    try:
        with pytest.raises(InputHangs, match=r"in\.mp4 has given nothing for"):
            upscale(options(clip, tmp_path / "out.mp4"))
    finally:
        release.set()
    assert left_in(tmp_path) == []


def test_a_process_that_stood_still_is_no_file_that_hangs(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(prepare, "_PATIENCE", 0.3)
    monkeypatch.setattr(prepare, "_STANDSTILL", 0.2)
    with open_job(options(clip, tmp_path / "out.mp4"), Silent()) as job:
        assert isinstance(job, Job)
        since = time.monotonic()
        job.watch(since)
        time.sleep(0.5)  # stopped, as Ctrl-Z does it
        job.watch(since)
        again = time.monotonic()
        with pytest.raises(InputHangs):
            while time.monotonic() < again + 60:
                time.sleep(0.01)
                job.watch(since)
        assert time.monotonic() - again >= 0.3 - 0.01


def test_a_lost_frame_is_noticed(monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path) -> None:
    real = SegmentWriter.write
    monkeypatch.setattr(SegmentWriter, "write", lambda self, frame: frame.index == 3 or real(self, frame))
    with pytest.raises(VerificationError, match="6 frames were decoded, 6 upscaled and 5 encoded"):
        upscale(options(clip, tmp_path / "out.mp4"))
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"input": "missing.mp4"}, InputError),
        ({"output": "missing/out.mp4"}, OutputError),
        ({"output": "-"}, UsageError),
        ({"output": "-", "format": "avi"}, UsageError),
        ({"input": "-", "format": "nut"}, UsageError),
        ({"streams": StreamOptions(audio_bitrate=96_000)}, UsageError),
        ({"streams": StreamOptions(audio_codec="copy", audio_bitrate=96_000)}, UsageError),
        ({"model": ModelOptions("nobody")}, WeightsError),
        ({"model": ModelOptions(scale=8)}, WeightsError),
        ({"encode": EncodeOptions(codec="nobody")}, OutputError),
    ],
)
def test_errors_are_of_the_class_that_says_whose_they_are(
    monkeypatch: pytest.MonkeyPatch, clip: Path, tmp_path: Path, changes: dict[str, object], error: type[Exception]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        upscale(options(clip, tmp_path / "out.mp4", **changes))
    assert left_in(tmp_path) == []


def test_the_public_names_are_there_and_typed() -> None:
    for name in rcan_video.__all__:
        assert getattr(rcan_video, name) is not None
    for function in (rcan_video.upscale, rcan_video.probe, rcan_video.load_model):
        assert function.__doc__
        assert function.__annotations__.keys() == {*function.__code__.co_varnames[: _arguments(function)], "return"}
    assert (Path(rcan_video.__file__).parent / "py.typed").exists()
    with pytest.raises(AttributeError, match="no attribute 'nobody'"):
        rcan_video.nobody  # noqa: B018


def _arguments(function: object) -> int:
    code = function.__code__  # type: ignore[attr-defined]
    return int(code.co_argcount + code.co_kwonlyargcount)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, rcan_video; rcan_video.Options; print({'torch', 'av', 'cv2', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
