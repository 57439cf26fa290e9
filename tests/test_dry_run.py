"""``--dry-run``: what it says, that nothing is left behind, and the exit codes of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clips import make_clip
from test_cli import Cli, cli  # noqa: F401

from rcan_video.errors import Interrupted
from rcan_video.frames import Frame
from rcan_video.segments.run import Sink

QUICK = ("--device", "cpu", "--threads", "1")


@pytest.fixture(autouse=True)
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_clip(tmp_path / "in.mp4", size=(48, 32), frames=40, audio=1, options={"g": "10"})


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_object_for_scripts(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    said = cli("in.mp4", "out.mkv", "--dry-run", "--json", *QUICK)
    found = json.loads(said.out)
    assert (said.code, said.err, found["version"], found["complete"]) == (0, "", 1, False)
    assert (found["input"]["width"], found["output"]["width"], found["input"]["frames"]) == (48, 96, 40)
    assert [row["after"] for row in found["streams"]] == ["libx264 96x64 yuv420p", "copied"]
    assert (found["segments"], found["whole"], found["kept"]) == (1, None, 0)
    cost = found["cost"]
    assert cost["seconds"] > cost["start"] > 0 and cost["network"] > 0 and cost["encode"] > 0
    assert cost["disk_bytes"] > cost["output_bytes"] > 0
    assert left(tmp_path) == ["in.mp4"]


def test_words_for_people(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    said = cli("in.mp4", "out.avi", "--dry-run", *QUICK)
    assert said.err == "" and "audio 1" in said.out and "in one go (avi was not tried with segments)" in said.out
    for word in ("segments: ", "time: about ", "disk: very roughly ", "memory: "):
        assert word in said.out
    assert cli("in.mp4", "-", "--format", "nut", "--dry-run", *QUICK).code == 0
    assert left(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (("nobody.mp4", "out.mp4"), 3, "there is no such file"),
        (("in.mp4", "nowhere/out.mp4"), 4, "does not exist"),
        (("in.mp4", "out.mp4", "--codec", "nobody"), 4, "there is no encoder"),
        (("in.mp4", "out.mp4", "--model", "nobody"), 5, "nobody"),
        (("in.mp4", "out.mp4", "--device", "cuda:9"), 6, "cuda"),
        (("-", "out.mp4"), 2, "name a file"),
        (("in.mp4", "out.mp4", "--preview"), 2, "ask one at a time"),
    ],
)
def test_exit_codes_are_those_of_a_run(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    line: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    said = cli(*line, "--dry-run")
    assert said.code == code and words in said.sentence
    assert left(tmp_path) == ["in.mp4"]


def test_a_cluster_is_not_measured(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    clip = make_clip(tmp_path / "in.mp4", size=(48, 32), frames=3)
    done = cli(str(clip), str(tmp_path / "out.mp4"), "--ray", "local", "--dry-run")
    assert done.code == 2 and "--dry-run measures this machine" in done.err


def test_several_devices_work_at_once(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    clip = make_clip(tmp_path / "in.mp4", size=(48, 32), frames=3)
    done = cli(str(clip), str(tmp_path / "out.mp4"), "--device", "cpu,cpu", "--dry-run", "--json")
    assert done.code == 0 and json.loads(done.out)["engine"].count("; ") == 1


def test_json_alone_is_wrong_usage(cli: Cli) -> None:  # noqa: F811
    assert cli("in.mp4", "out.mp4", "--json").code == 2


def test_what_is_kept_is_found_and_left_alone(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, written = Sink.write, []

    def stopping(sink: Sink, frame: Frame) -> None:
        written.append(frame.index)
        if len(written) > 25:
            raise Interrupted
        write(sink, frame)

    with monkeypatch.context() as patch:
        patch.setattr("rcan_video.segments.job.choose_length", lambda *_: 10)
        patch.setattr(Sink, "write", stopping)
        assert cli("in.mp4", "out.mp4", *QUICK).code == 130
    before = left(tmp_path), left(tmp_path / "out.mp4.rcan")
    assert json.loads(cli("in.mp4", "out.mp4", "--dry-run", "--json", *QUICK).out)["kept"] == 20
    assert "another --start" in cli("in.mp4", "out.mp4", "--dry-run", "--start", "0.2", *QUICK).err
    assert (left(tmp_path), left(tmp_path / "out.mp4.rcan")) == before
