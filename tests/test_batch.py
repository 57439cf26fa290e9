"""Several inputs: which they are, what their outputs are called, and what a run over all of them says and leaves."""

import io
import shlex
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
from clips import make_clip, read_video

from rcan_video import batch
from rcan_video.batch import Task, plan, read_list, run_batch
from rcan_video.errors import BatchFailed, InputError, Interrupted, OutputError, UsageError, WeightsError
from rcan_video.options import BatchOptions, DeviceOptions, ModelOptions, Options
from rcan_video.progress import FileResult, Silent

OPTIONS = Options("", "", device=DeviceOptions("cpu", threads=1))
COMMAND = (sys.executable, "-m", "rcan_video")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"")


def planned(*inputs: str, out_dir: str = "up", **more: object) -> dict[str, str]:
    return dict(plan(BatchOptions(inputs, out_dir, **more)))  # type: ignore[arg-type]


# --- what is taken, and what comes of it


def test_files_folders_and_patterns(here: Path) -> None:
    touch("in/b.MKV", "in/a.mp4", "in/notes.txt", "in/.hidden.mkv", "in/sub/c.avi", "in/x.mkv.rcan/000001.mp4", "odd")
    touch("other/d.ts", "other/e.ts")
    assert planned("in") == {"in/a.mp4": "up/a.mp4", "in/b.MKV": "up/b.MKV"}
    assert planned("in", recursive=True)["in/sub/c.avi"] == "up/sub/c.mkv"
    assert len(planned("in", recursive=True)) == 3
    assert planned("other/*.ts", "odd") == {"other/d.ts": "up/d.mkv", "other/e.ts": "up/e.mkv", "odd": "up/odd.mkv"}
    assert planned("**/*.mp4") == {"in/a.mp4": "up/a.mp4"}
    assert planned("missing.mkv") == {"missing.mkv": "up/missing.mkv"}  # told when its turn comes


def test_a_name_with_brackets_is_a_name(here: Path) -> None:
    touch("a [1].mkv", "a 1.mkv")
    assert planned("a [1].mkv") == {"a [1].mkv": "up/a [1].mkv"}
    Path("a [1].mkv").unlink()
    assert planned("a [1].mkv") == {"a 1.mkv": "up/a 1.mkv"}


@pytest.mark.parametrize(
    ("suffix", "output"),
    [
        ("", "a.b.mp4"),
        ("_x2", "a.b_x2.mp4"),
        ("_x2.mkv", "a.b_x2.mkv"),
        (".webm", "a.b.webm"),
        ("_v1.5", "a.b_v1.5.mp4"),
    ],
)
def test_suffixes(here: Path, suffix: str, output: str) -> None:
    touch("a.b.mp4")
    assert planned("a.b.mp4", suffix=suffix) == {"a.b.mp4": f"up/{output}"}


def test_what_is_there_twice_is_done_once(here: Path) -> None:
    touch("a.mkv", "b.mkv")
    Path("link.mkv").symlink_to("a.mkv")
    assert list(planned("a.mkv", "./a.mkv", "*.mkv", "link.mkv")) == ["a.mkv", "b.mkv"]


def test_the_folder_of_the_outputs_is_no_input(here: Path) -> None:
    touch("a.mkv", "up/a.mkv")
    assert planned(".", recursive=True) == {"a.mkv": "up/a.mkv"}


def test_with_a_suffix_a_folder_may_be_its_own_output(here: Path) -> None:
    touch("a.mkv", "a_x2.mkv", "b.mkv")
    for inputs in ((".",), ("*.mkv",)):
        assert planned(*inputs, out_dir=".", suffix="_x2") == {"a.mkv": "a_x2.mkv", "b.mkv": "b_x2.mkv"}


@pytest.mark.parametrize(
    ("inputs", "more", "kind", "text"),
    [
        (("a.mkv", "a.avi"), {}, UsageError, "a.mkv and a.avi would both become up/a.mkv"),
        (("x/a.mkv", "y/a.mkv"), {}, UsageError, "x/a.mkv and y/a.mkv would both become up/a.mkv"),
        (("x", "y"), {}, UsageError, "x/a.mkv and y/a.mkv would both become up/a.mkv"),
        (("a.mkv",), {"out_dir": "."}, UsageError, "a.mkv would be written over an input"),
        (("x",), {"out_dir": "x"}, UsageError, "x/a.mkv would be written over an input"),
        (
            ("a.mkv", "a_x2.mkv"),
            {"out_dir": ".", "suffix": "_x2"},
            UsageError,
            "a_x2.mkv would be written over an input",
        ),
        (("a.mkv", "-"), {}, UsageError, "standard input is one video"),
        (("*.mov",), {}, InputError, "no file matches *.mov"),
        (("empty",), {}, InputError, "there is no video in empty"),
        ((), {"inputs_from": "none.txt"}, InputError, "--inputs-from none.txt cannot be read"),
        ((), {}, InputError, "there is no video in"),
    ],
)
def test_what_is_refused_before_the_first_frame(
    here: Path, inputs: tuple[str, ...], more: dict[str, str], kind: type[Exception], text: str
) -> None:
    touch("a.mkv", "a.avi", "x/a.mkv", "y/a.mkv", "a_x2.mkv", "empty/notes.txt")
    with pytest.raises(kind) as caught:
        planned(*inputs, **more)  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert not Path("up").exists()


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"a.mkv\nsub/b c.mkv\n", ["a.mkv", "sub/b c.mkv"]),
        (b"\xef\xbb\xbf#EXTM3U\r\n#EXTINF:1,x\r\na.mkv\r\n\r\n", ["a.mkv"]),
        (b"./a\n.mkv\0#b.mkv\0", ["./a\n.mkv"]),
        (b"\xe4.mkv", ["\udce4.mkv"]),
        (b"", []),
    ],
)
def test_lists(here: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, names: list[str]) -> None:
    Path("list").write_bytes(content)
    assert read_list("list") == names
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    assert read_list("-") == names


def test_a_list_is_relative_to_its_own_folder(here: Path) -> None:
    touch("films/a.mkv", "films/b.mkv")
    Path("films/list.m3u8").write_text("#EXTM3U\na.mkv\nb.mkv\n")
    assert planned(inputs_from="films/list.m3u8") == {"films/a.mkv": "up/a.mkv", "films/b.mkv": "up/b.mkv"}


# --- the run


class Heard(Silent):
    """What a display is told."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.rows: list[FileResult] = []
        self.failed: list[tuple[str, int]] = []
        self.noticed: list[str] = []

    def file(self, number: int, count: int, name: str, output: str) -> None:
        self.files.append(f"{number}/{count} {name}")

    def results(self, rows: object) -> None:
        self.rows = list(rows)  # type: ignore[call-overload]

    def fail(self, text: str, code: int) -> None:
        self.failed.append((text, code))

    def notice(self, text: str) -> None:
        self.noticed.append(text)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mkv", size=(32, 16), frames=3)


def statuses(heard: Heard) -> list[tuple[str, int]]:
    return [(row.status, row.exit_code) for row in heard.rows]


def test_a_failure_stops_nothing_and_what_is_there_is_left(here: Path, clip: Path) -> None:
    Path("in").mkdir()
    for name in ("a.mkv", "c.mkv"):
        shutil.copy(clip, Path("in", name))
    Path("in/b.mkv").write_text("no video")
    tasks, heard = plan(BatchOptions(("in", "missing.mkv"), "up")), Heard()
    with pytest.raises(BatchFailed) as caught:
        run_batch(tasks, OPTIONS, heard)
    assert caught.value.exit_code == 3
    assert str(caught.value) == "2 of 4 files went wrong, first in/b.mkv (exit code 3)"
    assert heard.files == ["1/4 in/a.mkv", "2/4 in/b.mkv", "3/4 in/c.mkv", "4/4 missing.mkv"]
    assert statuses(heard) == [("done", 0), ("failed", 3), ("done", 0), ("failed", 3)]
    assert [code for _, code in heard.failed] == [3, 3] and "in/b.mkv cannot be opened" in heard.failed[0][0]
    assert len(read_video(Path("up/a.mkv"))) == 3

    before = Path("up/a.mkv").stat().st_mtime_ns
    Path("up/c.mkv").unlink()
    Path("in/b.mkv").unlink()
    again = Heard()
    run_batch(plan(BatchOptions(("in",), "up")), OPTIONS, again)
    assert statuses(again) == [("skipped", 0), ("done", 0)]
    assert Path("up/a.mkv").stat().st_mtime_ns == before


def test_the_exit_code_is_the_highest_and_a_bug_is_one_file_s(
    here: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = {"a": ValueError("no sense"), "b": OutputError("b cannot be"), "c": InputError("c cannot be")}

    def upscale(options: Options, progress: object) -> SimpleNamespace:
        if options.input in codes:
            raise codes[options.input]
        return SimpleNamespace(frames_out=3, seconds=1.0, damaged=options.input == "d")

    monkeypatch.setattr(batch, "upscale", upscale)
    heard = Heard()
    with pytest.raises(BatchFailed) as caught:
        run_batch([Task(name, f"up/{name}") for name in "abcde"], OPTIONS, heard)
    assert caught.value.exit_code == 4
    assert statuses(heard) == [("failed", 1), ("failed", 4), ("failed", 3), ("damaged", 3), ("done", 0)]
    assert heard.failed[0][0].startswith("this is a bug (ValueError: no sense)")
    assert heard.rows[3].text == "d is damaged: up/d is whole but for what could not be read"


def test_what_is_wrong_with_all_files_is_told_once(here: Path, clip: Path) -> None:
    tasks = [Task(str(clip), "up/a.mkv"), Task(str(clip), "up/b.mkv")]
    heard = Heard()
    with pytest.raises(WeightsError):
        run_batch(tasks, Options("", "", model=ModelOptions("nobody")), heard)
    with pytest.raises(UsageError):
        run_batch(tasks, Options("", "", format="nut"), heard)
    assert not heard.files and not Path("up").exists()


def test_max_time_is_that_of_all(here: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Fraction | None] = []

    def upscale(options: Options, progress: object) -> SimpleNamespace:
        given.append(options.max_time)
        clock.now += 40
        return SimpleNamespace(frames_out=3, seconds=1.0, damaged=False)

    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(batch, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(batch, "upscale", upscale)
    heard = Heard()
    tasks = [Task(str(k), f"up/{k}") for k in range(4)]
    with pytest.raises(Interrupted) as caught:
        run_batch(tasks, Options("", "", max_time=Fraction(60)), heard)
    assert given == [60, 20]
    assert str(caught.value) == "--max-time is over: 2 of 4 files are done" and caught.value.kept
    assert statuses(heard) == [("done", 0)] * 2


def test_an_interrupted_batch_goes_on_by_the_command_that_it_prints(here: Path, clip: Path) -> None:
    """Killed in the middle of a file: that one goes on, those before it stay, those behind it follow."""
    Path("in").mkdir()
    shutil.copy(clip, "in/a.mkv")
    make_clip(Path("in/b.mkv"), size=(160, 96), frames=300)
    shutil.copy(clip, "in/c.mkv")
    arguments = ["in", "--out-dir", "up", "-d", "cpu", "--threads", "1", "--engine", "torch"]
    with subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if list(Path("up").glob("b.mkv.rcan/000001.mp4*")) or list(Path("up").glob("b.mkv.rcan/000000.mp4.part")):
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    sentence = err.splitlines()[-1]
    assert "1 of 3 files are done; to go on: rcan-video in --out-dir up" in sentence
    again = shlex.split(sentence.partition("to go on: ")[2])
    assert again == ["rcan-video", *arguments]
    done = subprocess.run([*COMMAND, *again[1:]], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "3 files: 2 done, 1 skipped" in done.stderr.splitlines()[-1]
    assert [len(read_video(Path("up", name))) for name in ("a.mkv", "b.mkv", "c.mkv")] == [3, 300, 3]
    assert sorted(path.name for path in Path("up").iterdir()) == ["a.mkv", "b.mkv", "c.mkv"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("a.mkv", "b.mkv", "c.mkv"), 2, "several inputs need --out-dir"),
        (("a.mkv", "b.mkv", "-r"), 2, "--recursive is for several inputs: give --out-dir, too"),
        (("--inputs-from", "list"), 2, "--inputs-from is for several inputs: give --out-dir, too"),
        (("a.mkv", "--out-dir", "."), 2, "would be written over an input"),
    ],
)
def test_usage(here: Path, arguments: tuple[str, ...], code: int, text: str) -> None:
    touch("a.mkv")
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == code and text in done.stderr and done.stderr.count("\n") == 1
