"""The command as a user meets it: in this process where that is the same, as a process of its own where it is not."""

import contextlib
import fcntl
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clips import make_clip, read_packets, read_video

from rcan_video import job
from rcan_video.commands.display import open_display
from rcan_video.commands.upscale import main
from rcan_video.engine.choice import openvino_installed
from rcan_video.frames import ColorTags
from rcan_video.options import STREAM_FORMATS, DeviceOptions, EncodeOptions, ModelOptions, Options, StreamOptions
from rcan_video.progress import Progress, Silent
from rcan_video.progress.bar import Bar
from rcan_video.progress.events import Events
from rcan_video.progress.plain import ErrorsAlone, Plain
from rcan_video.version import __version__

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "rcan_video")
SAMPLE = ROOT / "examples/sample.mp4"
FRAMES = 6
INTERRUPTED = "rcan-video: interrupted, this run has kept nothing; again: rcan-video "
QUICK = ("--device", "cpu", "--threads", "1")
SECONDS = 60.0  # for a process to do what takes it three


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What is on stderr, if that is one sentence of ours and nothing else is anywhere."""
        assert self.out == ""
        assert self.err.startswith("rcan-video: ") and self.err.endswith("\n") and self.err.count("\n") == 1, self.err
        return self.err.removeprefix("rcan-video: ").rstrip("\n")


Cli = Callable[..., Said]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Calls ``rcan-video`` in this process."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["rcan-video", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            main()
        assert isinstance(exit.value.code, int)
        return Said(exit.value.code, *capfd.readouterr())

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A good clip and all the bad ones. Not the folder where outputs go."""
    folder = tmp_path_factory.mktemp("clips")
    good = make_clip(folder / "good.mp4", size=(48, 32), frames=FRAMES, audio=1, tags=ColorTags(1, 1, 1, 1))
    content = good.read_bytes()
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "cut.mp4").write_bytes(content[: len(content) // 2])  # the index is at the end
    (folder / "noise.safetensors").write_bytes(bytes(range(256)) * 8)
    (folder / "noise.pth").write_bytes(b"PK\x03\x04" + bytes(500))
    _extract_audio(good, folder / "sound.m4a")
    return SimpleNamespace(folder=folder, good=good, **{p.name.replace(".", "_"): p for p in folder.iterdir()})


def _extract_audio(clip: Path, path: Path) -> None:
    import av

    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        track = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = track
                output.mux(packet)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


USAGE = [
    ((), "Missing argument 'INPUT'"),
    (("good.mp4",), "Missing argument 'OUTPUT'"),
    (("good.mp4", "out.mp4", "more"), "unexpected extra argument"),
    (("good.mp4", "out.mp4", "--nobody"), "--nobody"),
    (("good.mp4", "out.mp4", "--scale", "9"), "'9' is no scale: give a number from 1 to 8, such as 2, 1.5 or 4/3"),
    (("good.mp4", "out.mp4", "--scale", "1/0"), "'1/0' is no scale"),
    (("good.mp4", "out.mp4", "--size", "640"), "'640' is no size: write width and height in pixels, 3840x2160"),
    (("good.mp4", "out.mp4", "--fit", "2k"), "'2k' is not one of '720p', '1080p', '1440p', '4k', '8k'"),
    (("good.mp4", "out.mp4", "--scale", "2", "--height", "96"), "--scale 2 and --height 96 each say how large"),
    (("good.mp4", "out.mp4", "--height", "8"), "already, which --height 8 does not enlarge: give a larger size"),
    (("good.mp4", "out.mp4", "--start", "soon"), "'soon' is no time"),
    (("good.mp4", "out.mp4", "--start", "-1"), "'-1' is no time"),
    (("good.mp4", "out.mp4", "--duration", "1:2:3:4"), "'1:2:3:4' is no time"),
    (("good.mp4", "out.mp4", "--batch", "0"), "--batch"),
    (("good.mp4", "out.mp4", "--engine", "opnvino"), "'torch', 'openvino'; did you mean 'openvino'?"),
    (("good.mp4", "out.mp4", "--devic", "cpu"), "there is no option --devic; did you mean '--device'?"),
    (("good.mp4", "out.mp4", "--engine", "openvino", "--device", "cuda"), "--engine openvino computes on the CPU"),
    (("good.mp4", "out.mp4", "--crf", "-1"), "--crf"),
    (("good.mp4", "out.mp4", "--encoder-opt", "tune"), "'tune' is not of the form KEY=VALUE"),
    (("good.mp4", "-", "--format", "avi"), "'avi' is not one of 'nut'"),
    (("good.mp4", "-"), "standard output needs a container: give --format"),
    (("good.mp4", "out.mkv", "--codec", "ffv1", "--crf", "20"), "ffv1 has no constant-quality setting"),
    (("good.mp4", "out.mkv", "--codec", "ffv1", "--preset", "slow"), "ffv1 has no presets"),
    (("good.mp4", "out.mp4", "--encoder-opt", "nobody=1"), "libx264 has no option 'nobody'"),
    (("good.mp4", "out.mp4", "--pix-fmt", "nobody"), "FFmpeg knows no such pixel format"),
]
INPUT = [
    (("missing.mp4", "out.mp4"), "missing.mp4 cannot be opened: there is no such file"),
    ((".", "out.mp4"), ". is a directory: name a video file"),
    (("text.mp4", "out.mp4"), "text.mp4 cannot be opened: it is no media file"),
    (("empty.mp4", "out.mp4"), "empty.mp4 cannot be opened: the file is empty"),
    (("cut.mp4", "out.mp4"), "cut.mp4 cannot be opened"),
    (("sound.m4a", "out.mp4"), "sound.m4a has no video stream to upscale (it holds audio)"),
    (("good.mp4", "out.mp4", "--start", "60"), "good.mp4 ends before --start 60 seconds"),
    (("good.mp4", "out.mp4", "--duration", "0"), "good.mp4 has no frame"),
    (("good.mp4", "out.mp4", "--start", "0.05", "--duration", "0.01"), "good.mp4 has no frame"),
]
OUTPUT = [
    (("good.mp4", "."), ". is a directory: name a file in it"),
    (("good.mp4", "missing/out.mp4"), "the folder missing does not exist"),
    (("good.mp4", "good.mp4"), "good.mp4 is the input itself"),
    (("good.mp4", "good.mp4", "-y"), "good.mp4 is the input itself"),
    (("good.mp4", "text.mp4"), "text.mp4 exists already: name another output or pass --overwrite"),
    (("good.mp4", "out.nobody"), "no container is known for the ending '.nobody'"),
    (("good.mp4", "out"), "no container is known for the ending ''"),
    (("good.mp4", "out.mp4", "--codec", "nobody"), "there is no encoder 'nobody'"),
    (("good.mp4", "out.mp4", "--codec", "aac"), "aac is no video encoder"),
    (("good.mp4", "out.webm", "--codec", "libx264"), "webm cannot carry"),
    (("good.mp4", "out.webm"), "--audio-codec"),
]
WEIGHTS = [
    (("good.mp4", "out.mp4", "--model", "nobody"), "nobody: there is no such file, nor are such weights bundled"),
    (
        ("good.mp4", "out.mp4", "--scale", "8"),
        "fast enlarges by 2, 3 or 4, and --scale 8 is beyond that: give --scale 4",
    ),
    (
        ("good.mp4", "out.mp4", "--model", ROOT / "weights/fast-x2.safetensors", "--scale", "3"),
        "enlarges by 2, and --scale 3 is beyond that",
    ),
    (("good.mp4", "out.mp4", "--model", "noise.safetensors"), "noise.safetensors"),
    (("good.mp4", "out.mp4", "--model", "noise.pth"), "noise.pth"),
    (("good.mp4", "out.mp4", "--model", "good.mp4"), "good.mp4"),
    (("good.mp4", "out.mp4", "--model", "."), "."),
]
DEVICE = [
    (("good.mp4", "out.mp4", "--device", "nobody"), "nobody"),
    (("good.mp4", "out.mp4", "--device", "cuda:99"), "cuda"),
]
ERRORS = [
    pytest.param(code, arguments, text, id=f"{code}: {' '.join(Path(str(a)).name for a in arguments) or 'nothing'}")
    for code, cases in ((2, USAGE), (3, INPUT), (4, OUTPUT), (5, WEIGHTS), (6, DEVICE))
    for arguments, text in cases
]


@pytest.mark.parametrize(("code", "arguments", "text"), ERRORS)
def test_an_error_is_one_sentence_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, clips: SimpleNamespace, code: int, arguments: tuple[str], text: str
) -> None:
    monkeypatch.chdir(clips.folder)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in clips.folder.iterdir()}
    said = cli(*arguments)
    assert text in said.sentence
    assert said.code == code
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in clips.folder.iterdir()} == before


def test_an_engine_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, clips: SimpleNamespace, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    said = cli(clips.good, tmp_path / "out.mp4", "--engine", "openvino")
    assert said.sentence == "OpenVINO is not installed here: pip install rcan-video[openvino], or use --engine torch"
    assert (said.code, left_in(tmp_path)) == (6, [])
    said = cli(clips.good, tmp_path / "out.mp4", *QUICK)
    assert "fast, torch on cpu" in said.err.splitlines()[0] and said.code == 0


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_the_input_by_another_name_is_refused(
    cli: Cli, clips: SimpleNamespace, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    link(tmp_path / "other.mp4", clips.good)
    said = cli(clips.good, tmp_path / "other.mp4", "-y")
    assert "is the input itself" in said.sentence and said.code == 4


def test_a_folder_that_does_not_take_the_file(cli: Cli, clips: SimpleNamespace) -> None:
    """Not even root can make files in /proc, though the system says that it may."""
    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc here")
    said = cli(clips.good, "/proc/self/out.mp4")
    assert "/proc/self/out.mp4 cannot be written" in said.sentence.splitlines()[0] and said.code == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(cli: Cli, clips: SimpleNamespace, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    said = cli(clips.good, tmp_path / "out.mp4")
    tmp_path.chmod(0o700)
    assert f"the folder {tmp_path} does not permit it" in said.sentence and said.code == 4


def test_what_a_run_says(cli: Cli, clips: SimpleNamespace, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    said = cli(clips.good, output, *QUICK)
    first, *table, last = said.err.splitlines()
    assert [line.split()[1:3] for line in table] == [["video", "0"], ["audio", "1"]]
    engine = "OpenVINO" if openvino_installed() else "torch"
    assert first.startswith(f"rcan-video: good.mp4 48x32 to 96x64, fast, {engine} on cpu")
    assert last.startswith(f"rcan-video: {output}: {FRAMES} frames, 96x64, ")
    assert (said.code, said.out) == (0, "")

    again = cli(clips.good, output, *QUICK)
    assert again.code == 4 and "exists already" in again.sentence
    assert cli(clips.good, output, "-y", "--quiet", *QUICK) == Said(0, "", "")
    verbose = cli(clips.good, output, "-y", "--verbose", *QUICK)
    assert "libx264" in verbose.err and "sha256" in verbose.err and verbose.out == ""
    assert left_in(tmp_path) == ["out.mp4"]


def test_options_reach_the_job(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    asked = []

    def upscale(options: Options, progress: Progress) -> SimpleNamespace:
        asked.append(options)
        return SimpleNamespace(damaged=False)

    monkeypatch.setattr(job, "upscale", upscale)
    arguments = "in out -s 3 -m m -d cpu --batch 2 --threads 1 --codec c --crf 1.5 --preset p --pix-fmt f"
    arguments += " --encoder-opt a=b --encoder-opt c=d=e --audio-codec aac"
    arguments += " --audio-bitrate 96000 --no-audio --no-subs --strict --format nut --start 1:02:03.5"
    arguments += " --duration 2.5 --on-corrupt fail --ray local -y"
    assert cli(*arguments.split()).code == 0
    assert cli("in", "out").code == 0
    assert asked == [
        Options(
            input="in",
            output="out",
            model=ModelOptions("m", 3),
            device=DeviceOptions("cpu", 2, 1),
            encode=EncodeOptions("c", 1.5, "p", "f", {"a": "b", "c": "d=e"}),
            streams=StreamOptions(False, False, "aac", 96000, True),
            format="nut",
            overwrite=True,
            start=Fraction(7447, 2),
            duration=Fraction(5, 2),
            on_corrupt="fail",
            ray="local",
        ),
        Options("in", "out"),
    ]


def test_debug_adds_the_traceback(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    said = cli("missing.mp4", "out.mp4", "--debug")
    assert said.err.startswith("Traceback") and "InputError" in said.err and said.code == 3
    assert said.err.splitlines()[-1].startswith("rcan-video: missing.mp4 cannot be opened")


@pytest.mark.parametrize("bug", [ValueError("no sense"), EOFError("an end"), AssertionError()])
def test_a_bug_says_that_it_is_one(monkeypatch: pytest.MonkeyPatch, cli: Cli, bug: Exception) -> None:
    def fail(*_: object) -> None:
        raise bug

    monkeypatch.setattr(job, "upscale", fail)
    said = cli("in", "out")
    assert said.sentence.startswith(f"this is a bug ({type(bug).__name__}") and said.code == 1
    assert "in fail\n    raise bug" in cli("in", "out", "--debug").err


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version") == Said(0, f"rcan-video {__version__}\n", "")
    said = cli("--help")
    assert said.code == 0 and said.err == "" and max(map(len, said.out.splitlines())) <= 80
    assert said == cli("-h")


class Stream(io.StringIO):
    """Standard error that is a terminal, or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "term", "asked", "kind"),
    [
        (True, "xterm", "auto", Bar),
        (True, "dumb", "auto", Plain),
        (False, "xterm", "auto", Plain),
        (False, "xterm", "rich", Bar),
        (True, "xterm", "plain", Plain),
        (True, "xterm", "none", ErrorsAlone),
        (False, "xterm", "json", Events),
    ],
)
def test_which_display(monkeypatch: pytest.MonkeyPatch, terminal: bool, term: str, asked: Any, kind: type) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(sys, "stderr", Stream(terminal))
    assert type(open_display(asked)) is kind
    monkeypatch.setattr(sys, "stderr", None)  # closed by the caller
    assert type(open_display(asked)) is Silent


@pytest.mark.parametrize(("value", "coloured"), [("", True), ("1", False)])
def test_colours_and_width_follow_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, coloured: bool) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("NO_COLOR", value)
    stream = Stream(True)
    monkeypatch.setattr(sys, "stderr", stream)
    display = open_display("auto")
    display.notice("a sentence that is longer than fifty columns, and so goes on in another line")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2 and ("\x1b[33m" in lines[0]) == coloured


def told(said: Said) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.err.splitlines()]


def test_json_and_nothing_else_on_stderr(cli: Cli, clips: SimpleNamespace, tmp_path: Path) -> None:
    said = cli(clips.good, tmp_path / "out.mp4", "--progress", "json", *QUICK)
    events = told(said)
    assert (said.code, said.out) == (0, "")
    stages = [event["stage"] for event in events if event["event"] == "stage"]
    assert stages == ["reading", "starting", "upscaling", "joining", "checking"]
    once = [event["event"] for event in events if event["event"] in ("start", "streams", "finish")]
    assert once == ["start", "streams", "finish"]
    assert events[-1]["frames_out"] == FRAMES and events[-1]["output"] == str(tmp_path / "out.mp4")
    said = cli(clips.text_mp4, tmp_path / "other.mp4", "--progress", "json", *QUICK)
    last = told(said)[-1]
    assert (last["event"], last["exit_code"], said.code) == ("error", 3, 3)
    assert last["text"].startswith(f"{clips.text_mp4} cannot be opened: it is no media file")


def test_another_descriptor(cli: Cli, clips: SimpleNamespace, tmp_path: Path) -> None:
    with (tmp_path / "told").open("w") as file:
        json_there = ("--progress", "json", "--progress-fd", file.fileno(), *QUICK)
        assert cli(clips.good, tmp_path / "out.mp4", *json_there) == Said(0, "", "")
        failed = cli(clips.text_mp4, tmp_path / "x.mp4", *json_there)
        assert "no media file" in failed.sentence and failed.code == 3
    events = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert events[0]["event"] == "stage" and events[-1]["event"] == "error"
    with (tmp_path / "told").open("r") as file:
        said = cli(clips.good, tmp_path / "x.mp4", "--progress-fd", file.fileno())
    assert said.code == 2 and "no such descriptor is open for writing" in said.sentence
    said = cli(clips.good, tmp_path / "x.mp4", "--progress-fd", "1")
    assert said.code == 2 and "1 is not in the range" in said.sentence


def test_a_log_file_is_added_to(cli: Cli, clips: SimpleNamespace, tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    log.write_text("before\n")
    assert cli(clips.good, tmp_path / "out.mp4", "-q", "--log", log, *QUICK) == Said(0, "", "")
    assert cli(clips.text_mp4, tmp_path / "x.mp4", "-q", "--log", log, *QUICK).code == 3
    lines = log.read_text().splitlines()
    assert lines[0] == "before" and "sha256" in log.read_text()
    assert "text.mp4 cannot be opened: it is no media file" in lines[-1]
    for name in (clips.good, tmp_path / "new.mp4"):
        said = cli(clips.good, tmp_path / "new.mp4", "--log", name)
        assert said.code == 2 and "is the input or the output itself" in said.sentence
    said = cli(clips.good, tmp_path / "new.mp4", "--log", tmp_path / "missing/log")
    assert said.code == 4 and "name another file" in said.sentence


def test_descriptors_that_the_caller_has_closed_are_not_given_to_files(clips: SimpleNamespace, tmp_path: Path) -> None:
    """What a library prints to descriptor 2 would go into the output, or into the log."""
    code = "import os, sys; from rcan_video.commands import shell; shell._occupy_standard_descriptors(); "
    code += f"sys.exit(os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY))"
    line = f'{sys.executable} -c "{code}" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", line], timeout=SECONDS).returncode == 3


@contextlib.contextmanager
def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> Iterator[io.BytesIO]:
    """Standard input that gives ``content``, and standard output that is caught: real pipes, as the shell makes."""
    (in_read, in_write), (out_read, out_write) = os.pipe(), os.pipe()
    caught = io.BytesIO()

    def feed() -> None:
        with os.fdopen(in_write, "wb") as pipe, contextlib.suppress(BrokenPipeError):
            pipe.write(content)

    def catch() -> None:
        with os.fdopen(out_read, "rb") as pipe:
            shutil.copyfileobj(pipe, caught)

    threads = [threading.Thread(target=work) for work in (feed, catch)]
    for thread in threads:
        thread.start()
    with os.fdopen(in_read, "r") as stdin, os.fdopen(out_write, "w") as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stdout", stdout)
        yield caught
    for thread in threads:
        thread.join(SECONDS)


@pytest.mark.parametrize("format", STREAM_FORMATS)
def test_pipes_carry_every_frame_and_the_sound(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, tmp_path: Path, format: str
) -> None:
    raw: dict[str, Any] = (
        {"codec": "wrapped_avframe", "audio": 0} if format == "yuv4mpegpipe" else {"codec": "libx264", "audio": 2}
    )
    if format == "mp4":
        raw["container_options"] = {"movflags": "frag_keyframe+delay_moov"}
    frames = 40
    clip = make_clip(tmp_path / "in", size=(48, 32), frames=frames, format=format, **raw)
    result = tmp_path / "out"
    with piped(monkeypatch, clip.read_bytes()) as caught:
        said = cli("-", "-", "--format", format, "--quiet", *QUICK)
    assert said == Said(0, "", "")
    result.write_bytes(caught.getvalue())
    source, large = read_video(clip, format=format), read_video(result, format=format)
    assert len(large) == len(source) == frames
    assert all(planes[0].shape == (64, 96) for _, planes in large)
    moved = large[0][0] - source[0][0]  # type: ignore[operator]
    assert [time - moved for time, _ in large] == [time for time, _ in source]  # type: ignore[operator]
    for track in range(int(str(raw["audio"]))):
        sound = [packet.data for packet in read_packets(clip, "audio", track)]
        assert [packet.data for packet in read_packets(result, "audio", track)] == sound


def test_a_file_goes_into_a_pipe_of_another_format(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, clips: SimpleNamespace, tmp_path: Path
) -> None:
    with piped(monkeypatch, b"") as caught:
        assert cli(clips.good, "-", "--format", "matroska", "--quiet", *QUICK) == Said(0, "", "")
    (tmp_path / "out.mkv").write_bytes(caught.getvalue())
    assert len(read_video(tmp_path / "out.mkv")) == FRAMES
    with piped(monkeypatch, caught.getvalue()):
        assert cli("-", tmp_path / "out.mp4", "--quiet", *QUICK) == Said(0, "", "")
    assert len(read_video(tmp_path / "out.mp4")) == FRAMES


def test_damage_at_the_end_is_told_and_survived(cli: Cli, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", size=(48, 32), frames=40, audio=1)
    content = clip.read_bytes()
    clip.write_bytes(content[: len(content) * 3 // 4])
    said = cli(clip, tmp_path / "out.mkv", *QUICK)
    assert said.code == 3 and said.out == "" and f"{clip} is cut off: " in said.err
    assert len(read_video(tmp_path / "out.mkv")) == len(read_video(clip)) < 40


@contextlib.contextmanager
def spawned(*arguments: object, **pipes: Any) -> Iterator[subprocess.Popen[bytes]]:
    """``rcan-video`` as a process of its own; killed if it is still there at the end."""
    pipes.setdefault("stdin", subprocess.DEVNULL)
    with subprocess.Popen([*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def ending(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code and the rest of stderr of a process that has every reason to end."""
    assert process.stderr is not None
    code = process.wait(10)
    return code, process.stderr.read().decode()


def test_help_loads_nothing_heavy() -> None:
    code = """if True:
        import json, sys
        from rcan_video.commands.upscale import main
        for sys.argv in (["rcan-video", "--help"], ["rcan-video", "--version"], ["rcan-video", "--nobody"]):
            try:
                main()
            except SystemExit:
                pass
        print(json.dumps(sorted({"torch", "av", "cv2", "rich", "numpy", "safetensors"} & set(sys.modules))))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_launcher_is_the_command_and_leaves_stdin_alone(clips: SimpleNamespace, tmp_path: Path) -> None:
    """A loop over lines of files, ``while read``, breaks where the command eats its input."""
    run = f"{sys.executable} {ROOT / 'cli.py'} {clips.good} {tmp_path / 'out.mp4'} --quiet"
    line = f"printf 'a\\nb\\n' | {{ {run} && cat; }}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\nb\n", "")
    assert len(read_video(tmp_path / "out.mp4")) == FRAMES


def test_a_reader_that_leaves_early_ends_it_without_a_word() -> None:
    with spawned(SAMPLE, "-", "--format", "nut", "--quiet", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert len(process.stdout.read(1000)) == 1000
        process.stdout.close()
        assert ending(process) == (4, "")


@pytest.mark.parametrize("arguments", [("out.mp4",), ("-", "--format", "nut")])
def test_a_full_disk(tmp_path: Path, arguments: tuple[str]) -> None:
    """A limit on the size of files stands in for the disk; /dev/full is one for pipes."""
    clip = make_clip(tmp_path / "in.mp4", frames=30, size=(64, 48))
    line = f"ulimit -f 8; cd {tmp_path}; exec {' '.join(COMMAND)} in.mp4 {' '.join(arguments)} -q > /dev/full"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=SECONDS)
    assert Said(done.returncode, done.stdout, done.stderr).sentence.startswith(
        ("out.mp4 cannot be written: ", "standard output cannot be written: the disk is full")
    )
    assert done.returncode == 4
    assert left_in(tmp_path) == [clip.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_midway_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with spawned(SAMPLE, tmp_path / "out.mp4", "--preset", "veryslow") as process:
        assert process.stderr is not None
        assert b"sample.mp4 320x180" in process.stderr.readline()
        assert [process.stderr.readline().split()[1] for _ in range(2)] == [b"video", b"audio"]
        while not left_in(tmp_path) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        code, told = ending(process)
        assert (code, told[: len(INTERRUPTED)]) == (130, INTERRUPTED)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("sent", [0.0, 0.5], ids=["before the header", "in the middle"])
def test_a_signal_while_stdin_is_silent(tmp_path: Path, sent: float) -> None:
    content = make_clip(tmp_path / "in.nut", codec="rawvideo", size=(320, 180), frames=60).read_bytes()
    with spawned("-", tmp_path / "out.mp4", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(content[: int(len(content) * sent) or 1])
        process.stdin.flush()
        while process.poll() is None and _unread(process.stdin.fileno()):  # until all of it has been taken
            time.sleep(0.01)
        if sent:
            assert b"standard input 320x180" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        code, told = ending(process)
        assert (code, told[: len(INTERRUPTED)]) == (130, INTERRUPTED)
    assert left_in(tmp_path) == ["in.nut"]


def _unread(pipe: int) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, struct.pack("i", 0)))
    return int(count)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg command here")
def test_between_two_ffmpeg(tmp_path: Path) -> None:
    make_clip(tmp_path / "in.mkv", size=(48, 32), frames=40, audio=1)
    line = (
        f"cd {tmp_path}; set -o pipefail; ffmpeg -v error -i in.mkv -c copy -f nut - "
        f"| {' '.join(COMMAND)} - - --format nut --quiet "
        "| ffmpeg -v error -i - -c:v ffv1 -c:a copy out.mkv"
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    source, result = read_video(tmp_path / "in.mkv"), read_video(tmp_path / "out.mkv")
    moved = result[0][0] - source[0][0]  # type: ignore[operator]  # FFmpeg does that, so that no DTS is negative
    assert [time - moved for time, _ in result] == [time for time, _ in source]  # type: ignore[operator]
    sound = [packet.data for packet in read_packets(tmp_path / "in.mkv", "audio")]
    assert [packet.data for packet in read_packets(tmp_path / "out.mkv", "audio")] == sound


def test_a_time_limit_that_keeps_nothing_says_so(cli: Cli, tmp_path: Path) -> None:
    """Run again for ever, such a job would never be done."""
    said = cli(SAMPLE, tmp_path / "out.mp4", "--max-time", "0.000001", "--quiet", *QUICK)
    assert said.code == 130
    assert said.sentence.startswith("--max-time is over, this run has kept nothing; again: rcan-video ")
    assert list(tmp_path.iterdir()) == []
