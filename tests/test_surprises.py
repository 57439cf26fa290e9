"""Inputs and outputs of which nobody thinks: each of these once went wrong."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import click
import pytest
import torch
from clips import make_clip, read_packets, read_video

from rcan_video import EncodeOptions, Options, StreamOptions, upscale
from rcan_video.engine.choice import openvino_installed
from rcan_video.errors import InputError, OutputError, RcanVideoError, UsageError, WeightsError
from rcan_video.media.decode import Source
from rcan_video.media.files import PartFile, check_output, open_input
from rcan_video.media.timeline import Timeline
from rcan_video.network import checkpoint
from rcan_video.options import DeviceOptions
from rcan_video.progress import Silent
from rcan_video.version import __version__

FRAMES = 10


class Listener(Silent):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def options(source: Path, target: Path, **more: Any) -> Options:
    return Options(str(source), str(target), **{"device": DeviceOptions("cpu", threads=1), **more})


def command(*arguments: object, **more: Any) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "rcan_video", *map(str, arguments)]
    return subprocess.run(line, **{"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": 60, **more})


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".nut"])
def test_y4m_says_the_rate_of_its_frames(tmp_path: Path, suffix: str) -> None:
    """It has no times but a rate, which FFmpeg takes from the time base: 1/10240 made 10240 frames a second."""
    clip = make_clip(tmp_path / f"in{suffix}", size=(32, 16), frames=FRAMES, rate=10)
    done = command(clip, "-", "--format", "yuv4mpegpipe", "--quiet")
    assert done.returncode == 0
    assert b" F10:1 " in done.stdout.split(b"\n")[0]
    assert done.stdout.count(b"FRAME\n") == FRAMES


def test_times_that_a_container_cannot_store_are_named_when_they_are_uneven(tmp_path: Path) -> None:
    ticks = [0, 1, 2, 9, 10, 11, 20, 21, 22, 23]
    clip = make_clip(tmp_path / "in.mkv", size=(32, 16), frames=FRAMES, time_base=Fraction(1, 25), pts=ticks)
    heard = Listener()
    upscale(options(clip, tmp_path / "out.y4m"), heard)
    assert len(heard.notices) == 1 and "are uneven and are lost" in heard.notices[0]
    assert len(read_video(tmp_path / "out.y4m")) == FRAMES


def test_mpeg2_opens_whatever_the_time_base_of_the_source(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=FRAMES)
    upscale(options(clip, tmp_path / "out.mkv", encode=EncodeOptions(codec="mpeg2video", crf=None)))
    times = [time for time, _ in read_video(tmp_path / "out.mkv")]
    assert [float((t or 0) - (times[0] or 0)) for t in times] == pytest.approx(
        [k / 25 for k in range(FRAMES)], abs=1e-3
    )


def apart(path: Path) -> tuple[Fraction, int]:
    """Seconds from the first sound to the second picture, and how many pictures there are."""
    pictures, sounds = ([p.time or Fraction(0) for p in read_packets(path, kind)] for kind in ("video", "audio"))
    return sorted(pictures)[1] - sounds[0], len(pictures)


@pytest.mark.parametrize("begins", [Fraction(0), Fraction(2)])  # the sound, before a picture at two seconds
@pytest.mark.parametrize("suffix", [".mkv", ".mpg", ".ts", ".mp4"])
def test_mpeg2_begins_at_its_time_beside_the_sound(tmp_path: Path, suffix: str, begins: Fraction) -> None:
    clip = make_clip(
        tmp_path / "in.mkv",
        size=(32, 16),
        pts=range(50, 60),
        options={"bf": "0"},
        audio=1,
        audio_codec="mp2",
        audio_start=begins,
    )
    out = tmp_path / f"out{suffix}"
    upscale(options(clip, out, encode=EncodeOptions(codec="mpeg2video")))
    (before, _), (after, count) = apart(clip), apart(out)
    assert abs(before - (2 - begins)) < Fraction(1, 10) and count == FRAMES
    assert abs(after - before) < Fraction(1, 50)  # half a frame: the encoder counts at a constant rate


@pytest.mark.parametrize("begins", [Fraction(0), Fraction(2)])
def test_pictures_in_avi_begin_late_where_they_do(tmp_path: Path, begins: Fraction) -> None:
    """It has no start times: the first picture stands until the second comes at its time."""
    clip = make_clip(
        tmp_path / "in.mkv", size=(32, 16), pts=range(50, 60), audio=1, audio_codec="mp2", audio_start=begins
    )
    heard = Listener()
    upscale(options(clip, tmp_path / "out.avi"), heard)
    (before, _), (after, count) = apart(clip), apart(tmp_path / "out.avi")
    assert count == FRAMES and heard.notices == []
    assert abs(after - before) <= Fraction(2, 25)  # FFmpeg's reader shows H.264 in AVI a frame late


def test_what_starts_a_decoder_up_does_not_hold_the_pictures_of_avi(tmp_path: Path) -> None:
    """AAC comes with a packet before zero, which other containers hide."""
    clip = make_clip(tmp_path / "in.mkv", size=(32, 16), frames=FRAMES, audio=1)
    upscale(options(clip, tmp_path / "out.avi"))
    with av.open(str(tmp_path / "out.avi")) as file:
        assert [packet.dts for packet in file.demux(video=0) if packet.size] == list(range(FRAMES))


def test_sound_that_avi_cannot_begin_late_is_named(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", size=(32, 16), frames=FRAMES, audio=1, audio_codec="mp2", audio_start=2)
    heard = Listener()
    upscale(options(clip, tmp_path / "out.avi"), heard)
    sentence = "avi stores no start times: audio stream 1 comes 2.000 s too early; choose .mkv or .mp4"
    assert heard.notices == [sentence]
    with pytest.raises(OutputError, match=f"^--strict: {sentence}"):
        upscale(options(clip, tmp_path / "strict.avi", streams=StreamOptions(strict=True)))


def test_sound_that_mxf_does_not_begin_early_is_named(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "in.mkv",
        size=(32, 16),
        pts=range(50, 50 + FRAMES),
        audio=1,
        audio_codec="pcm_s16le",
    )
    heard = Listener()
    upscale(options(clip, tmp_path / "out.mxf"), heard)
    assert heard.notices == ["mxf stores no start times: audio stream 1 comes 2.000 s too late; choose .mkv or .mp4"]


@pytest.mark.parametrize("suffix", [".avi", ".wmv"])
def test_containers_that_store_when_a_packet_is_decoded_get_no_b_frames(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=FRAMES)
    upscale(options(clip, tmp_path / f"out{suffix}"))
    pictures, packets = read_video(tmp_path / f"out{suffix}"), read_packets(tmp_path / f"out{suffix}", "video")
    assert len(pictures) == FRAMES
    times = [time or Fraction(0) for time, _ in pictures]
    # FFmpeg's reader does not know the time of the last frame of a WMV.
    assert [b - a for a, b in itertools.pairwise(times[:-1])] == [Fraction(1, 25)] * (FRAMES - 2)
    assert [packet.time for packet in packets] == times


def test_timestamps_that_start_again_are_refused(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.ts", size=(32, 16), frames=50)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(clip.read_bytes() * 2)
    with pytest.raises(InputError, match=r"go back by 2\.0 s after frame 50, as if files had been joined"):
        upscale(options(joined, tmp_path / "out.mkv"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.ts", "joined.ts"]


def test_a_timeline_knows_how_far_back_a_time_lies() -> None:
    line = Timeline(Fraction(1, 25), Fraction(25))
    assert line.behind(5) == 0
    line.stamp(100, 1)
    assert (line.behind(100), line.behind(101), line.behind(40), line.behind(None)) == (0, 0, 60, 0)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("video_size", "10x10", "--encoder-opt changes the size, pixel format or time base of the output"),
        ("pixel_format", "yuv422p", "--encoder-opt changes the size, pixel format or time base of the output"),
        ("time_base", "1/7", "--encoder-opt changes the size, pixel format or time base of the output"),
        ("s", "10x10", "the encoder libx264 has no option 's'"),
        ("framerate", "10", "the encoder libx264 has no option 'framerate'"),
    ],
)
def test_the_size_and_the_clock_are_nobodys_to_set(tmp_path: Path, key: str, value: str, sentence: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=2)
    with pytest.raises(UsageError, match=f"^{sentence}"):
        upscale(options(clip, tmp_path / "out.mp4", encode=EncodeOptions(options={key: value})))
    assert not (tmp_path / "out.mp4").exists()


def test_a_pixel_format_that_nothing_can_write(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=2)
    chosen = EncodeOptions(codec="rawvideo", pix_fmt="bayer_bggr8")
    with pytest.raises(UsageError, match="--pix-fmt bayer_bggr8: "):
        upscale(options(clip, tmp_path / "out.nut", encode=chosen))


@pytest.mark.parametrize("name", ["out.m3u8", "out.mpd", "out.bmp"])
def test_what_is_no_single_file_is_refused(tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=2)
    with pytest.raises(OutputError, match=r"is no video file: use \.mp4, \.mkv or \.mov$"):
        upscale(options(clip, tmp_path / name))
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_header_that_a_muxer_refuses_names_the_streams(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", size=(32, 16), frames=2, audio=1, audio_codec="flac")
    with pytest.raises(OutputError, match=r"mov refuses libx264, audio flac; choose another .*--audio-codec$"):
        upscale(options(clip, tmp_path / "out.mov"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_neither_input_nor_output(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match=r"is a pipe or a device: give it as standard input"):
        open_input(str(pipe))
    with pytest.raises(OutputError, match=r"is a pipe or a device: name a file; into a pipe, rcan-video writes"):
        check_output("in.mp4", str(pipe), overwrite=True)


def test_a_link_keeps_pointing_where_it_did(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "out.mp4"
    link.symlink_to(tmp_path / "far" / "real.mp4")
    with PartFile(str(link), overwrite=True) as part:
        part.path.write_text("new")
        part.commit()
    assert link.is_symlink() and (tmp_path / "far" / "real.mp4").read_text() == "new"


@pytest.mark.parametrize("place", ["output", "work_dir"])
def test_folders_whose_name_is_too_long(tmp_path: Path, place: str) -> None:
    clip = make_clip(tmp_path / "in.mp4")
    folder = str(tmp_path / ("x" * 300))
    job = Options(str(clip), f"{folder}/out.mp4") if place == "output" else Options(str(clip), "o.mp4", work_dir=folder)
    with pytest.raises(OutputError, match=r"x{300}.*: File name too long"):
        upscale(job)


def test_names_that_are_too_long(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=2)
    with pytest.raises(OutputError, match="File name too long"):
        check_output(str(clip), str(tmp_path / ("x" * 300 + ".mp4")), overwrite=False)
    with pytest.raises(InputError, match="File name too long"):
        open_input("x" * 300)
    longest = tmp_path / ("ü" * 125 + ".mp4")  # 254 bytes: legal, and leaves no room for a longer part name
    upscale(options(clip, longest))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["in.mp4", longest.name])


@pytest.mark.parametrize("stderr", ["closed", "full", "gone"])
def test_a_log_that_nobody_reads_does_not_end_the_job(tmp_path: Path, stderr: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=2)
    target = tmp_path / "out.mp4"
    line = f'"{sys.executable}" -m rcan_video "{clip}" "{target}"'
    line += {"closed": " 2>&-", "full": " 2>/dev/full", "gone": " 2>&1 >/dev/null | true; exit ${PIPESTATUS[0]}"}[
        stderr
    ]
    done = subprocess.run(["bash", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert len(read_video(target)) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("asked", ["-h", "--version", "--list-models", "in.mp4 out.mp4 --dry-run --device cpu"])
def test_what_was_asked_for_and_cannot_be_printed(tmp_path: Path, asked: str) -> None:
    make_clip(tmp_path / "in.mp4", size=(32, 16), frames=2)
    line = f'"{sys.executable}" -m rcan_video {asked}'
    for into, code, said in (
        ("> /dev/full", 4, "rcan-video: standard output cannot be written: the disk is full\n"),
        ("| true; exit ${PIPESTATUS[0]}", 4, ""),  # whoever closed it knows
        (">&-", 0, ""),  # and so does who gave none
    ):
        shell = ["bash", "-c", f"(sleep 0.2; {line}) {into}" if "true" in into else f"{line} {into}"]
        done = subprocess.run(shell, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("name", ["bench", "compare", "evaluate", "train", "upscale"])
def test_every_command_has_its_help_and_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(f"rcan_video.commands.{name}")
    for flag, words in (("-h", "Usage: name "), ("--help", "Usage: name "), ("--version", f" {__version__}")):
        with pytest.raises(click.exceptions.Exit):
            module.command.make_context("name", [flag])
        assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--start", "1e99999999"),
        ("--duration", "1/3"),
        ("--start", "-1"),
        ("--threads", "1000000"),
        ("--batch", "1000000"),
    ],
)
def test_numbers_out_of_all_bounds(tmp_path: Path, arguments: tuple[str, str]) -> None:
    done = command("in.mp4", "out.mp4", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b"" and done.stderr.count(b"\n") == 1


def test_a_format_for_files_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--format is for standard output"):
        upscale(options(tmp_path / "in.mp4", tmp_path / "out.mp4", format="nut"))


def test_a_part_of_a_pipe_has_all_its_sound(tmp_path: Path) -> None:
    """In a transport stream sound lies behind its pictures: it is still to come when the last picture is out."""
    clip = make_clip(tmp_path / "in.ts", size=(32, 16), frames=75, audio=1)
    by_name, by_pipe = tmp_path / "name.mkv", tmp_path / "pipe.mkv"
    upscale(options(clip, by_name, duration=Fraction(1)))
    with clip.open("rb") as stdin:
        done = command("-", by_pipe, "--duration", "1", "--quiet", "--threads", "1", stdin=stdin)
    assert done.returncode == 0
    assert len(read_video(by_pipe)) == len(read_video(by_name)) == 25
    sound = [[p.data for p in read_packets(path, "audio")] for path in (by_pipe, by_name)]
    assert sound[0] == sound[1]


def test_tensors_that_claim_more_than_they_hold(tmp_path: Path) -> None:
    from rcan_video.network.rcan import RCAN, RCANConfig

    net = RCAN(RCANConfig(groups=1, blocks=1, features=16, reduction=4, mean_shift=False, rgb_range=1))
    state = {key: torch.zeros(1).expand(tensor.shape) for key, tensor in net.state_dict().items()}
    torch.save(state, tmp_path / "hollow.pth")
    with pytest.raises(WeightsError, match="claim more numbers than the file holds"):
        checkpoint.load(tmp_path / "hollow.pth")


def test_damage_that_only_the_reader_of_the_sound_meets_is_told(tmp_path: Path) -> None:
    from rcan_video.media.damage import Damage
    from rcan_video.media.packets import FilePackets, Window

    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=5, audio=1)
    damage = Damage(str(clip))
    packets = FilePackets(str(clip), [1], Window(), damage)

    def broken(*_: object) -> Any:
        raise av.error.InvalidDataError(1, "damaged")

    class Cut:
        demux = broken

        def close(self) -> None: ...

    packets.container.close()
    packets.container = Cut()  # type: ignore[assignment]
    assert packets() is None
    assert damage and damage.others_notices() == [f"{clip} is damaged: its other streams were read no further"]

    packets = FilePackets(str(clip), [1], Window(), Damage(str(clip), "fail"))
    packets.container.close()
    packets.container = Cut()  # type: ignore[assignment]
    with pytest.raises(InputError, match="its other streams can be read no further; get it again, or let rcan-video"):
        packets()


def test_a_strict_job_and_what_it_says(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=2, audio=1)
    with pytest.raises(RcanVideoError, match=r"^--strict: audio stream 1"):
        upscale(options(clip, tmp_path / "out.y4m", streams=StreamOptions(strict=True)))
    with Source(str(clip)) as source:
        assert len(list(source.frames())) == 2


def test_avi_counts_frames_at_the_rate_of_the_source(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", size=(32, 16), frames=FRAMES)
    upscale(options(clip, tmp_path / "out.avi"))
    with av.open(str(tmp_path / "out.avi")) as file:
        stream = file.streams.video[0]
        assert (stream.average_rate, stream.frames) == (25, FRAMES)


def wrapping(path: Path) -> Path:
    """A transport stream whose clock of 33 bits wraps a fifth of a second after the start: before that, FFmpeg counts
    below zero."""
    first = (1 << 33) - 18000
    return make_clip(
        path,
        size=(32, 16),
        time_base=Fraction(1, 90_000),
        pts=[first + 3600 * k for k in range(FRAMES)],
        audio=1,
        audio_codec="mp2",
        audio_start=Fraction(first - 1800, 90_000),
    )


@pytest.mark.parametrize("piped", [True, False])  # in one go, and in segments
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_what_comes_before_zero_is_not_hidden_by_edit_lists(tmp_path: Path, suffix: str, piped: bool) -> None:
    clip, out = wrapping(tmp_path / "in.ts"), tmp_path / f"out{suffix}"
    if piped:
        with clip.open("rb") as stream:
            assert command("-", out, "--quiet", stdin=stream).returncode == 0
    else:
        upscale(options(clip, out))
    times = [time for time, _ in read_video(out)]
    assert times == [(times[0] or 0) + Fraction(k, 25) for k in range(FRAMES)]
    before, after = ([p.time or Fraction(0) for p in read_packets(path, "audio")] for path in (clip, out))
    assert len(before) == len(after) and after[0] == 0
    first = read_video(clip)[0][0] or Fraction(0)
    assert first < 0 and abs((times[0] or 0) - after[0] - (first - before[0])) < Fraction(1, 1000)


def test_a_part_of_what_comes_before_zero_has_all_its_sound(tmp_path: Path) -> None:
    clip = wrapping(tmp_path / "in.ts")
    upscale(options(clip, tmp_path / "out.mp4", start=Fraction(1, 10)))
    begin = next(time for time, _ in read_video(clip) if time is not None and time >= Fraction(-1, 10))
    wanted = [packet for packet in read_packets(clip, "audio") if packet.time is not None and packet.time >= begin]
    assert begin < 0 and len(read_packets(tmp_path / "out.mp4", "audio")) == len(wanted)


def test_what_only_starts_a_decoder_up_stays_hidden(tmp_path: Path) -> None:
    """The first packet of AAC in Matroska comes before zero by right."""
    clip = make_clip(tmp_path / "in.mkv", size=(32, 16), frames=FRAMES, audio=1)
    upscale(options(clip, tmp_path / "out.mp4"))
    assert read_video(tmp_path / "out.mp4")[0][0] == 0
    assert [round((p.time or 0) * 1000) for p in read_packets(tmp_path / "out.mp4", "audio")][:2] == [-21, 0]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=2)
    target = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.mp4"))
    upscale(options(clip, target))
    assert target.exists()
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    upscale(options(clip, tmp_path / "loop.mp4"))  # a link to nowhere is replaced
    assert (tmp_path / "loop.mp4").is_file()


def test_a_file_that_is_read_and_written_through_redirection(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.nut", size=(32, 16), frames=2)
    before = clip.read_bytes()
    with clip.open("r+b") as both:
        assert (
            command(clip, "-", "--format", "nut", stdout=both, stderr=subprocess.PIPE, capture_output=False).returncode
            == 4
        )
        assert command("-", clip, "-y", stdin=both).returncode == 4
    assert clip.read_bytes() == before


def test_an_output_folder_that_is_removed_on_the_way(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=4)
    folder = tmp_path / "folder"
    folder.mkdir()

    class Remover(Silent):
        def update(self, done: int, reused: int = 0) -> None:
            shutil.rmtree(folder, ignore_errors=True)

    with pytest.raises(OutputError, match="its folder or the unfinished file in it is gone"):
        upscale(options(clip, folder / "out.mp4"), Remover())


def test_the_benchmark_measures_the_command(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(32, 16), frames=5, rate=Fraction(30000, 1001))
    line = [sys.executable, "-c", "from rcan_video.commands.bench import main; main()", str(clip)]
    line += ["--frames", "4", "--runs", "1", "--threads", "1", "--device", "cpu"]
    line += ["--precision", "single", "--precision", "bf16", "--json"]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["frames"], figures["size"], figures["threads"]) == (4, "32x16", 1)
    assert all(figures[stage] > 0 for stage in ("decode", "colour", "encode", "frame_gflop"))
    measured = [(engine["engine"], engine["precision"]) for engine in figures["engines"]]
    assert measured == [("torch", "single"), ("torch", "bf16"), ("openvino", "single")][: 2 + openvino_installed()]
    names = ("bare", "whole", "first", "first_cached", "whole_to_bare", "peak_gflops", "peak_share")
    for engine in figures["engines"]:
        assert all(engine[name] > 0 for name in names)
        assert engine["memory"] is None or 50 < engine["memory"] < 5000
