"""Standing choices and what there is to choose from: quality, configuration, environment, lists, completion."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import click
import pytest
from clips import make_clip, needs_encoder

from rcan_video import job
from rcan_video.commands import config, upscale
from rcan_video.commands.shell import _run
from rcan_video.errors import OutputError
from rcan_video.media.codecs import plan_video
from rcan_video.media.decode import probe
from rcan_video.media.encoder_options import KNOBS
from rcan_video.media.listing import encoders
from rcan_video.network.catalog import entries
from rcan_video.options import EncodeOptions, Options
from rcan_video.progress import Display

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "rcan_video")


def _make_man() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_man", ROOT / "docs" / "make_man.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_man = _make_man()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Options]:
    """The options that a command line gives, in an empty folder, with no configuration but what a test writes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    given: list[Options] = []

    def take(options: Options, progress: Display) -> SimpleNamespace:
        given.append(options)
        return SimpleNamespace(damaged=False)

    monkeypatch.setattr(job, "upscale", take)

    def call(*arguments: str) -> Options:
        monkeypatch.setattr(sys, "argv", ["rcan-video", "in", "out", *arguments])
        assert _run(upscale.command, "rcan-video", debug=False) == 0
        return given.pop()

    return call


def refused(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence of a command line that is wrong usage."""
    monkeypatch.setattr(sys, "argv", ["rcan-video", "in", "out", *arguments])
    assert _run(upscale.command, "rcan-video", debug=False) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    return err


# --- the order


def test_a_size_that_is_typed_replaces_another_of_the_configuration(
    asked: Callable[..., Options], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rcan-video.toml").write_text("height = 100\nray = 'local'\n")
    assert asked().size.height == 100 and asked().ray == "local"
    typed = asked("--scale", "2", "--ray", "none")
    assert typed.size.height is None and typed.model.scale == 2 and typed.ray is None
    monkeypatch.setenv("RCAN_VIDEO_FIT", "4k")
    assert asked().size.height is None and asked().size.fit == "4k"


def test_command_line_environment_configuration_default(
    asked: Callable[..., Options], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert asked().encode.crf is None
    (tmp_path / "home/rcan-video.toml").write_text("crf = 25\nthreads = 3\n")
    assert (asked().encode.crf, asked().device.threads) == (25, 3)
    (tmp_path / "rcan-video.toml").write_text("crf = 24.5\n")
    assert (asked().encode.crf, asked().device.threads) == (24.5, 3)  # each option by itself
    monkeypatch.setenv("RCAN_VIDEO_CRF", "23")
    assert asked().encode.crf == 23
    assert asked("--crf", "22").encode.crf == 22


def test_a_named_configuration_stands_alone(
    asked: Callable[..., Options], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "rcan-video.toml").write_text("crf = 24\n")
    (tmp_path / "other.toml").write_text("preset = 'slow'\n")
    for arguments in (("--config", "other.toml"), ()):
        options = asked(*arguments)
        assert (options.encode.crf, options.encode.preset) == (None, "slow")
        monkeypatch.setenv("RCAN_VIDEO_CONFIG", "other.toml")


def test_every_kind_of_value(asked: Callable[..., Options], tmp_path: Path) -> None:
    (tmp_path / "rcan-video.toml").write_text(
        """
        scale = 3
        model = "own.safetensors"
        no-audio = true
        overwrite = true
        fps = "30000/1001"
        max-time = "8h"
        [encoder-opt]
        tune = "film"
        bf = 3
        """
    )
    options = asked()
    assert (options.model.scale, options.model.model, options.overwrite) == (3, "own.safetensors", True)
    assert options.streams.audio is False and options.max_time == 28800
    assert options.encode.options == {"tune": "film", "bf": "3"}
    (tmp_path / "rcan-video.toml").write_text('encoder-opt = ["tune=film"]')
    assert asked().encode.options == {"tune": "film"}


def test_the_environment_knows_flags_and_lists(asked: Callable[..., Options], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RCAN_VIDEO_NO_SUBS", "1")
    monkeypatch.setenv("RCAN_VIDEO_ENCODER_OPT", "tune=film bf=3")
    monkeypatch.setenv("RCAN_VIDEO_RESTART", "1")  # concerns one run alone
    options = asked()
    assert options.streams.subtitles is False and options.encode.options == {"tune": "film", "bf": "3"}
    assert options.restart is False


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("fps_mod = 'cfr'", "rcan-video.toml sets 'fps_mod', which is no option; did you mean 'fps-mode'?"),
        ("nobody = 1", "rcan-video.toml sets 'nobody', which is no option"),
        ("restart = true", "rcan-video.toml sets 'restart', which belongs on the command line"),
        ("config = 'x'", "rcan-video.toml sets 'config', which belongs on the command line"),
        ("help = true", "rcan-video.toml sets 'help', which belongs on the command line"),
        ("no-audio = 'yes'", "rcan-video.toml sets no-audio to 'yes': write true or false"),
        ("crf = true", "rcan-video.toml sets crf to True: write a text or a number"),
        ("crf = 'low'", "'low' is not a valid float range (from rcan-video.toml)"),
        ("engine = 'opnvino'", "did you mean 'openvino'? (from rcan-video.toml)"),
        ("crf 3", "rcan-video.toml is no TOML ("),
    ],
)
def test_a_configuration_that_is_wrong(
    asked: object, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], content: str, text: str
) -> None:
    Path("rcan-video.toml").write_text(content)
    assert text in refused(monkeypatch, capfd)


def test_what_else_is_wrong_usage(
    asked: object, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "none.toml cannot be read" in refused(monkeypatch, capfd, "--config", "none.toml")
    assert "--quiet is --progress none: give one of the two" in refused(monkeypatch, capfd, "-q", "--progress", "json")
    monkeypatch.setenv("RCAN_VIDEO_ENGINE", "nobody")
    assert "(from RCAN_VIDEO_ENGINE)" in refused(monkeypatch, capfd)


def test_quiet_is_stronger_than_a_standing_progress(
    asked: Callable[..., Options], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RCAN_VIDEO_PROGRESS", "json")
    Path("rcan-video.toml").write_text("crf = 20\n")
    asked()
    assert '"defaults are taken from rcan-video.toml"' in capfd.readouterr().err
    asked("-q")
    assert capfd.readouterr() == ("", "")


def test_the_user_s_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")  # which the specification says to ignore
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config.user_file() == tmp_path / ".config" / "rcan-video.toml"


# --- quality


@pytest.mark.parametrize("codec", sorted(KNOBS))
def test_every_encoder_has_grades(codec: str) -> None:
    knobs = KNOBS[codec]
    assert knobs.grades is not None and len(set(knobs.grades)) == 2 and knobs.preset and knobs.default_quality


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
def test_quality_is_crf_and_preset(codec: str, tmp_path: Path) -> None:
    needs_encoder(codec)
    info = probe(str(make_clip(tmp_path / "in.mkv", size=(64, 48), frames=3)))
    knobs = KNOBS[codec]

    def settings(**options: Any) -> tuple[float, str | None]:
        found = plan_video(info, 2, "matroska", EncodeOptions(codec, **options)).options
        return float(found[str(knobs.quality)]), found.get(str(knobs.preset))

    middle = knobs.default_quality
    assert middle is not None and knobs.grades is not None
    assert settings() == settings(quality="balanced") == (middle, None)
    assert settings(quality="draft") == (middle + 6, knobs.grades[0])
    assert settings(quality="best") == (middle - 4, knobs.grades[1])
    assert settings(quality="best", crf=30.0, preset="x") == (30.0, "x")  # what is named is stronger


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1", "libvpx-vp9"])
@pytest.mark.parametrize("quality", ["draft", "best"])
def test_encoders_know_their_presets(codec: str, quality: Any, tmp_path: Path) -> None:
    needs_encoder(codec)
    info = probe(str(make_clip(tmp_path / "in.mkv", size=(64, 48), frames=3)))
    target = plan_video(info, 2, "matroska", EncodeOptions(codec, quality=quality))
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.time_base = 128, 96, target.pix_fmt, 1 / info.rate
    context.options = dict(target.options)
    context.open()


def test_lossless_encoders_take_any_quality(tmp_path: Path) -> None:
    info = probe(str(make_clip(tmp_path / "in.mkv", size=(64, 48), frames=3)))
    best, plain = (plan_video(info, 2, "matroska", EncodeOptions("ffv1", quality=q)) for q in ("best", "balanced"))
    assert best.options == plain.options


# --- lists, completion


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


@pytest.mark.parametrize(
    ("what", "first", "rows"),
    [
        ("models", "MODEL", {"base        x2", "fast        x2", "fast-video  x2"}),
        ("devices", "DEVICE", {"cpu"}),
        ("codecs", "ENCODER", {"libx264 ", "ffv1"}),
    ],
)
def test_lists_are_tables(what: str, first: str, rows: set[str]) -> None:
    done = run(f"--list-{what}")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(first) and max(map(len, lines)) <= 120
    for row in rows:
        assert any(line.startswith(row) for line in lines)


def test_listed_encoders_are_there() -> None:
    found = list(encoders())
    assert {"ffv1", "rawvideo"} <= {encoder.name for encoder in found}
    for encoder in found:
        av.Codec(encoder.name, "w")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--dev", {"--device"}),
        ("--engine o", {"openvino"}),
        ("--model fast", {"fast", "fast-video"}),
        ("--model ba", {entry.name for entry in entries() if entry.name.startswith("ba")}),
        ("--out-dir x", set()),
        ("--quality b", {"balanced", "best"}),
        ("a.mkv --comp", {"--compile", "--completion"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, words: str, answer: set[str], tmp_path: Path) -> None:
    last = words.split()[-1]
    asked = {"COMP_WORDS": f"rcan-video {words}", "COMP_CWORD": last if shell == "fish" else str(len(words.split()))}
    done = run(_RCAN_VIDEO_COMPLETE=f"{shell}_complete", **asked)
    assert done.returncode == 0 and done.stderr == ""
    found = re.findall(r"^plain(?:,|\n)([\w-]+)", done.stdout, re.MULTILINE)
    assert set(found) == answer


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("asked", ["source", "complete"])
def test_an_answer_to_a_shell_that_cannot_be_written(asked: str) -> None:
    words = {"COMP_WORDS": "rcan-video --dev", "COMP_CWORD": "1"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            COMMAND,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env={**os.environ, **words, "_RCAN_VIDEO_COMPLETE": f"bash_{asked}"},
        )
    assert done.returncode == OutputError.exit_code
    assert done.stderr.startswith("rcan-video: standard output cannot be written: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell: str) -> None:
    done = run("--completion", shell)
    assert done.returncode == 0 and f"_RCAN_VIDEO_COMPLETE={shell}_complete" in done.stdout


def test_the_script_works_in_bash(tmp_path: Path) -> None:
    """As a user has it: the script is read, Tab is what bash calls then."""
    (tmp_path / "rcan-video").write_text(f'#!/bin/sh\nexec {sys.executable} -m rcan_video "$@"\n')
    (tmp_path / "rcan-video").chmod(0o755)
    script = run("--completion", "bash").stdout
    line = (
        script
        + "\nCOMP_WORDS=(rcan-video --devi); COMP_CWORD=1; _rcan_video_completion rcan-video; echo ${COMPREPLY[@]}"
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout == "--device\n", done.stderr


# --- help and manual pages


@pytest.mark.parametrize("name", ["rcan-video", "rcan-video-eval", "rcan-video-bench", "rcan-video-train"])
def test_the_manual_page_is_current(name: str) -> None:
    """``make man`` writes them anew."""
    page = make_man.page(name, import_module(f"rcan_video.commands.{make_man.COMMANDS[name]}").command)
    assert (ROOT / "docs" / "man" / f"{name}.1").read_text(encoding="utf-8") == page


@pytest.mark.skipif(not shutil.which("groff"), reason="no groff here")
@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "man").glob("*.1")), ids=lambda path: path.stem)
def test_groff_has_nothing_to_say_about_a_page(path: Path) -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-z", str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_is_grouped_and_shows_every_default() -> None:
    context = upscale.command.make_context("rcan-video", [], resilient_parsing=True)
    text = upscale.command.get_help(context)
    assert max(map(len, text.splitlines())) <= 80
    headings = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert headings[0] == "Picture" and headings[-1] == "Other" and len(headings) == 9
    alone = upscale.command.sections(context)["Other"]
    assert [option.opts[-1] for option in alone] == ["--version", "--help"]
    flat = " ".join(text.split())
    for option in upscale.command.params:
        if isinstance(option, click.Option) and not option.is_flag and not option.multiple:
            said = option.get_help_record(context)
            assert said is not None
            needs = "[default: " in said[1] or option.opts[-1] in WITHOUT_DEFAULT
            assert needs, option.opts
            assert option.opts[-1] in flat


# Nothing happens where these are not given.
WITHOUT_DEFAULT = {
    "--start",
    "--duration",
    "--crf",
    "--preset",
    "--format",
    "--audio-bitrate",
    "--max-time",
    "--out-dir",
    "--suffix",
    "--inputs-from",
    "--log",
    "--height",
    "--size",
    "--fit",
    "--preview",
    "--completion",
}
