"""Damaged input: stepped over and counted, in sync, said in the report and the exit code, or refused."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from clips import damage, make_clip, needs_encoder, read_packets, read_video

from rcan_video import Options, upscale
from rcan_video.errors import InputError
from rcan_video.media.ac3 import Uniform, kind_of
from rcan_video.media.damage import Damage
from rcan_video.media.decode import Source
from rcan_video.media.index import read_index
from rcan_video.options import EncodeOptions, StreamOptions

QUICK = EncodeOptions(preset="ultrafast")


def without(clip: Path, number: int) -> Path:
    """A copy of ``clip`` that lacks one packet, as after a gap in a transmission."""
    thinner = clip.with_name(f"thinner{clip.suffix}")
    with av.open(str(clip)) as source, av.open(str(thinner), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for k, packet in enumerate(p for p in source.demux(source.streams.video[0]) if p.size):
            if k != number:
                packet.stream = stream
                output.mux(packet)
    return thinner


def test_the_rest_stays_in_sync_and_the_report_says_so(tmp_path: Path) -> None:
    clip = damage(make_clip(tmp_path / "in.mp4", frames=20, audio=1, options={"g": "1"}), 7)
    report = upscale(Options(str(clip), str(tmp_path / "out.mp4"), encode=QUICK))
    assert (report.frames_in, report.frames_out, report.skipped_packets, report.damaged) == (19, 19, 1, True)
    assert report.notices[-1] == f"1 damaged packets of {clip} could not be decoded: 19 of about 20 frames came out"
    times = [time for time, _ in read_video(tmp_path / "out.mp4")]
    assert times == [Fraction(k, 25) for k in range(20) if k != 7]
    assert [p.data for p in read_packets(tmp_path / "out.mp4", "audio")] == [
        p.data for p in read_packets(clip, "audio")
    ]


def test_frames_that_depend_on_a_lost_one_are_kept_and_counted(tmp_path: Path) -> None:
    """HEVC's decoder leaves them out unless it is told otherwise."""
    needs_encoder("libx265")
    x265 = {"x265-params": "log-level=none:keyint=100:bframes=0:scenecut=0"}
    clip = without(make_clip(tmp_path / "in.mkv", codec="libx265", frames=20, options=x265), 5)
    with Source(str(clip)) as source:
        times = [round(f.pts * source.info.time_base * 25) for f in source.frames()]
    assert times == [k for k in range(20) if k != 5]
    assert source.damage.packets == 0 and 0 < source.damage.frames <= 14
    assert source.notices() == [
        f"{source.damage.frames} frames of {clip} are damaged: they were decoded as far as possible"
    ]


def test_what_lies_before_the_first_keyframe_is_no_damage(tmp_path: Path) -> None:
    clip = without(make_clip(tmp_path / "in.ts", frames=24, options={"g": "12", "bf": "0"}), 0)
    with Source(str(clip)) as source:
        assert len(list(source.frames())) >= 12
    assert (bool(source.damage), source.notices()) == (False, [])


@pytest.mark.parametrize("what", ["packet", "frame"])
def test_damage_can_be_made_to_fail(tmp_path: Path, what: str) -> None:
    if what == "packet":
        clip = damage(make_clip(tmp_path / "in.mp4", frames=12, options={"g": "1"}), 7)
        sentence = r"a packet at 0\.280 s cannot be decoded"
    else:
        needs_encoder("libx265")
        x265 = {"x265-params": "log-level=none:keyint=100:bframes=0:scenecut=0"}
        clip = without(make_clip(tmp_path / "in.mkv", codec="libx265", frames=12, options=x265), 5)
        sentence = "frame 5 can be decoded in part only"
    with pytest.raises(InputError, match=f"is damaged: {sentence}; get it again, or let"):
        upscale(Options(str(clip), str(tmp_path / "out.mp4"), encode=QUICK, on_corrupt="fail"))
    assert not (tmp_path / "out.mp4").exists()


def with_lost_sound(clip: Path) -> Path:
    """``clip``, a transport stream, without every sixth packet of its sound (188 bytes each, the first not among them):
    what follows a gap is taken for a frame, which it is not."""
    data = clip.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    sound = [k for k, packet in enumerate(packets) if int.from_bytes(packet[1:3], "big") & 0x1FFF == 0x101]
    lost = set(sound[4::6])
    assert lost
    clip.write_bytes(b"".join(packet for k, packet in enumerate(packets) if k not in lost))
    return clip


@pytest.mark.parametrize("codec", [None, "aac"])
@pytest.mark.parametrize("target", ["out.mkv", "out.mp4"])
def test_damaged_sound_is_stepped_over(tmp_path: Path, target: str, codec: str | None) -> None:
    clip = with_lost_sound(make_clip(tmp_path / "in.ts", frames=25, audio=1))
    streams = StreamOptions(audio_codec=codec)
    report = upscale(Options(str(clip), str(tmp_path / target), encode=QUICK, streams=streams))
    assert (report.frames_out, report.skipped_packets, report.damaged) == (25, 0, True)
    assert re.fullmatch(rf"[1-9]\d* damaged packets of the other streams of {clip} were left out", report.notices[-1])
    assert len(read_packets(tmp_path / target, "audio")) > 5
    with pytest.raises(
        InputError, match=r"is damaged: a packet at 0\.\d+ s of its other streams cannot be read; get it"
    ):
        upscale(Options(str(clip), str(tmp_path / f"2{target}"), encode=QUICK, streams=streams, on_corrupt="fail"))


def test_damaged_sound_in_a_pipe(tmp_path: Path) -> None:
    clip = with_lost_sound(make_clip(tmp_path / "in.ts", frames=25, audio=1))
    line = [sys.executable, "-m", "rcan_video", "-", str(tmp_path / "out.mkv"), "-q"]
    done = subprocess.run(line, input=clip.read_bytes(), capture_output=True, timeout=120)
    assert done.returncode == 3 and b"standard input is damaged" in done.stderr
    assert len(read_packets(tmp_path / "out.mkv", "audio")) > 5


def test_damaged_sound_of_unknown_duration_is_all_there(tmp_path: Path) -> None:
    """As the demuxer gives it where it cannot decode the first frames: in MP4 the last packet must not last no time."""
    clip = make_clip(tmp_path / "in.ts", frames=25, audio=1, audio_codec="eac3")
    data = bytearray(clip.read_bytes())
    sound = [at for at in range(0, len(data), 188) if int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF == 0x101]
    for at in sound[4::5]:
        data[at + 20 : at + 188] = np.random.default_rng(at).bytes(168)
    clip.write_bytes(data)
    assert {p.duration for p in read_packets(clip, "audio")} == {0}
    upscale(Options(str(clip), str(tmp_path / "out.mp4"), encode=QUICK))
    wanted, found = (len(read_packets(path, "audio")) for path in (clip, tmp_path / "out.mp4"))
    assert wanted == found


def hurt(clip: Path, numbers: range, patch: Callable[[bytes], bytes]) -> list[bytes]:
    """Let ``patch`` change the packets ``numbers`` of the sound of ``clip``; the others."""
    data, sound = bytearray(clip.read_bytes()), [p.data for p in read_packets(clip, "audio")]
    at, others = 0, []
    for number, packet in enumerate(sound):
        at = data.index(packet, at)
        if number in numbers:
            data[at : at + len(packet)] = patch(packet)
        else:
            others.append(packet)
        at += len(packet)
    clip.write_bytes(data)
    return others


def flipped(byte: int, bits: int) -> Callable[[bytes], bytes]:
    return lambda packet: packet[:byte] + bytes([packet[byte] ^ bits]) + packet[byte + 1 :]


HURT = {
    "sync": flipped(0, 0x30),
    "zeros": lambda packet: bytes(len(packet)),
    "kind": flipped(2, 0x30),
    "blocks": flipped(4, 0x30),
    "rate": flipped(4, 0x80),
    "longer": flipped(2, 0x04),
    "short": lambda packet: packet[:2] + bytes([packet[2] & 0xF8, 0]) + packet[4:],
}


HOW = [
    *(("eac3", how, "file") for how in HURT),
    *(("ac3", how, "file") for how in ("sync", "zeros", "rate")),
    *((codec, how, "pipe") for codec, how in (("eac3", "blocks"), ("ac3", "zeros"))),
]


@pytest.mark.parametrize("run", [1, 2, 3])
@pytest.mark.parametrize("start", ["first", "middle", "last"])
@pytest.mark.parametrize(("codec", "how", "into"), HOW)
def test_damaged_headers_of_sound_cost_their_packets_alone(
    tmp_path: Path, codec: str, how: str, start: str, run: int, into: str
) -> None:
    """MP4's muxer reads them, joins packets of E-AC-3 by what they say, and after a wrong one takes no more. It sorts
    packets: what it refuses comes up when a picture is written."""
    clip = make_clip(tmp_path / "in.mkv", frames=25, audio=1, audio_codec=codec)
    count = len(read_packets(clip, "audio"))
    first = {"first": 0, "middle": 7, "last": count - run}[start]
    others = hurt(clip, range(first, first + run), HURT[how])
    out = tmp_path / "out.mp4"
    if into == "pipe":
        line = [sys.executable, "-m", "rcan_video", str(clip), "-", "--format", "mp4", "-q", "--preset", "ultrafast"]
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)
        assert done.returncode == 3
        out.write_bytes(done.stdout)
    else:
        report = upscale(Options(str(clip), str(out), encode=QUICK))
        assert report.damaged and report.notices[-1].startswith(f"{run} damaged packets of the other streams of ")
    assert [p.data for p in read_packets(out, "audio")] == others
    assert len(read_packets(out, "video")) == 25


def headers(kinds: str) -> tuple[list[str], int]:
    """What passes of packets of the kinds a, b and c (which differ in rate), and d, which is damaged; and how many are
    left out."""
    damage, came = Damage("in.mkv"), []
    rates = {"a": 0x00, "b": 0x40, "c": 0x80}

    def carry(packet: Any) -> Iterator[Any]:
        if packet is not None:
            came.append(next(kind for kind, rate in rates.items() if rate == bytes(packet)[4] & 0xC0))
        yield from ()

    uniform = Uniform(carry, damage)
    for kind in kinds:
        head = b"\x0b\x77\x00\x03" + bytes([rates.get(kind, 0) | 0x30, 0x80 if kind != "d" else 0xFF, 0, 0])
        assert list(uniform.carry(cast("Any", av.Packet(head)))) == []
    assert list(uniform.carry(None)) == []
    return came, damage.others


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ("aaaa", "aaaa"),
        ("a", "a"),
        ("", ""),
        ("ddd", ""),
        ("dbba" + "a" * 20, "a" * 21),
        ("a" * 20 + "bbb" + "a", "a" * 21),
        ("a" * 20 + "bbbb" + "a" * 4, "a" * 20 + "bbbb" + "a" * 4),  # two lawful changes
        ("a" * 20 + "bcbcbb" + "a", "a" * 21),
        ("a" * 20 + "bbcccc", "a" * 20 + "cccc"),
        ("a" * 20 + "bbdbb", "a" * 20 + "bbbb"),
        ("a" * 20 + "bbb", "a" * 20),
        ("b" * 8 + "a" * 12, "b" * 8 + "a" * 12),
    ],
)
def test_a_lawful_change_of_sound_loses_nothing(kinds: str, wanted: str) -> None:
    came, lost = headers(kinds)
    assert "".join(came) == wanted and lost == len(kinds) - len(wanted)


def test_packets_with_dependent_substreams() -> None:
    """Their first header counts, and that they are whole."""
    first, second = (b"\x0b\x77" + bytes([kind, 3, 0x30, 0x80, 0, 0]) for kind in (0x00, 0x40))
    assert kind_of(first + second + second) == kind_of(first) != kind_of(first + b"??")
    assert kind_of(first[:7]) is None and kind_of(second) != kind_of(first)


@pytest.mark.parametrize("rate", [48000, 44100, 32000])
def test_the_sizes_of_frames(tmp_path: Path, rate: int) -> None:
    """As encoders make them: every packet of theirs is whole."""
    for codec in ("ac3", "eac3"):
        with av.open(str(tmp_path / f"{codec}.mkv"), "w") as output:
            stream = output.add_stream(codec, rate=rate, layout="stereo")
            for k in range(8):
                frame = av.AudioFrame.from_ndarray(np.zeros((2, 1536), np.float32), "fltp", "stereo")
                frame.rate, frame.pts = rate, k * 1536
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        kinds = {kind_of(p.data) for p in read_packets(tmp_path / f"{codec}.mkv", "audio")}
        assert len(kinds) == 1 and all(kind is not None and kind.whole for kind in kinds)


def few_blocks(clip: Path, blocks: Callable[[int], int]) -> None:
    """Let packet ``k`` of the sound of ``clip``, E-AC-3, say that it holds ``blocks(k)``."""
    for number in range(len(read_packets(clip, "audio"))):
        code = (1, 2, 3, 6).index(blocks(number)) << 4
        hurt(clip, range(number, number + 1), lambda p, code=code: p[:4] + bytes([p[4] & 0xCF | code]) + p[5:])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("blocks", "lost"),
    [
        (lambda k: 1, range(0)),  # the end of the sound has no place
        (lambda k: 2, range(0)),
        (lambda k: 3 if k < 17 else 2, range(16, 17)),
        (lambda k: 1 if k != 15 else 2, range(12, 16)),  # the set of which a damaged one was part
    ],
)
def test_sound_in_sets_of_six_blocks(tmp_path: Path, blocks: Callable[[int], int], lost: range) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=25, audio=1, audio_codec="eac3")
    few_blocks(clip, blocks)
    sound = [p.data for k, p in enumerate(read_packets(clip, "audio")) if k not in lost]
    report = upscale(Options(str(clip), str(tmp_path / "out.mp4"), encode=QUICK))
    assert report.damaged == bool(lost)
    found = b"".join(p.data for p in read_packets(tmp_path / "out.mp4", "audio"))
    whole = b"".join(sound)
    assert whole.startswith(found) and len(whole) - len(found) < 6 * len(sound[-1])


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
@pytest.mark.parametrize("policy", ["skip", "fail"])
def test_the_exit_code(tmp_path: Path, policy: str, quiet: list[str]) -> None:
    clip = damage(make_clip(tmp_path / "in.mp4", frames=12, options={"g": "1"}), 7)
    line = [sys.executable, "-m", "rcan_video", str(clip), str(tmp_path / "out.mp4"), "--on-corrupt", policy, *quiet]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3 and done.stderr.splitlines()[-1].startswith(f"rcan-video: {clip} is damaged: ")
    assert (tmp_path / "out.mp4").exists() == (policy == "skip")


def cut(clip: Path, share: float = 0.6) -> Path:
    """The beginning of ``clip``, as after a download that broke off."""
    data = clip.read_bytes()
    part = clip.with_name(f"cut{clip.suffix}")
    part.write_bytes(data[: int(len(data) * share)])
    return part


CUT = [
    (".mp4", "libx264", {"movflags": "faststart"}),
    (".mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    (".avi", "mpeg4", {}),
    (".mkv", "libx264", {}),
    (".webm", "libvpx-vp9", {}),
    (".flv", "flv1", {}),
]


@pytest.mark.parametrize(("ending", "codec", "options"), CUT)
def test_a_file_that_is_cut_off_is_told_at_once(
    tmp_path: Path, ending: str, codec: str, options: dict[str, str]
) -> None:
    """FFmpeg's readers take where it ends for the end of the video."""
    needs_encoder(codec)
    gop = {} if codec == "libvpx-vp9" else {"g": "5"}
    whole = make_clip(tmp_path / f"in{ending}", codec=codec, frames=30, options=gop, container_options=options)
    assert not read_index(str(whole)).cut_off
    clip = cut(whole)
    report = upscale(Options(str(clip), str(tmp_path / "out.mkv"), encode=QUICK))
    assert report.damaged and 0 < report.frames_out < 30
    assert f"{clip} is cut off: it is shorter than it says, and its end is missing; get it again" in report.notices
    with pytest.raises(InputError, match="is damaged: it is cut off, its end is missing; get it again, or let"):
        Source(str(clip), index=read_index(str(clip)), on_corrupt="fail")


def test_a_part_of_a_cut_file_that_is_all_there_is_whole(tmp_path: Path) -> None:
    clip = str(cut(make_clip(tmp_path / "in.mkv", frames=30)))
    index = read_index(clip)
    with Source(clip, index=index, duration=Fraction(1, 5), on_corrupt="fail") as source:
        assert (len(list(source.frames())), source.first_notices()) == (5, [])
    with Source(clip, index=index, duration=Fraction(1)) as source:
        assert source.damage.cut_off


def test_an_end_that_nothing_is_said_about_is_no_damage(tmp_path: Path) -> None:
    """A live recording in Matroska, an AVI of a program that counts the header twice, and an edit list."""
    live = cut(make_clip(tmp_path / "live.mkv", frames=30, container_options={"live": "1"}))
    avi = make_clip(tmp_path / "in.avi", codec="mpeg4", frames=12)
    data = bytearray(avi.read_bytes())
    data[4:8] = (len(data)).to_bytes(4, "little")
    avi.write_bytes(data)
    later = make_clip(tmp_path / "later.mp4", frames=12, pts=[k + 9 for k in range(12)])
    assert [read_index(str(clip)).cut_off for clip in (live, avi, later)] == [False] * 3


def test_what_lies_behind_an_flv_is_no_missing_end(tmp_path: Path) -> None:
    """Without the four bytes at its very end, with padding, and with the note of another program."""
    data = make_clip(tmp_path / "in.flv", codec="flv1", frames=12).read_bytes()
    for number, content in enumerate((data[:-4], data + b"\xff" * 64, data + b"TAG" + bytes(125))):
        clip = tmp_path / f"{number}.flv"
        clip.write_bytes(content)
        assert not read_index(str(clip)).cut_off


def test_no_damage_no_word(tmp_path: Path) -> None:
    report = upscale(
        Options(str(make_clip(tmp_path / "in.mp4")), str(tmp_path / "out.mp4"), encode=QUICK, on_corrupt="fail")
    )
    assert (report.skipped_packets, report.concealed_frames, report.damaged, report.notices) == (0, 0, False, ())


@pytest.mark.parametrize(
    ("format", "codec", "code"),
    [
        ("nut", "ffv1", 3),
        ("mpegts", "mpeg2video", 3),
        ("matroska", "ffv1", 0),
        ("yuv4mpegpipe", "wrapped_avframe", 0),
    ],
)
def test_a_pipe_that_is_cut_ends_with_what_came(tmp_path: Path, format: str, codec: str, code: int) -> None:
    """As after ``head -c``. FFmpeg's readers of Matroska and Y4M take a cut frame for the end."""
    content = make_clip(tmp_path / "in", codec=codec, frames=30, size=(96, 64), format=format).read_bytes()
    line = [sys.executable, "-m", "rcan_video", "-", "-", "--format", "nut", "-q"]
    done = subprocess.run(line, input=content[: len(content) * 2 // 3], capture_output=True, timeout=120)
    (tmp_path / "out.nut").write_bytes(done.stdout)
    assert 10 <= len(read_video(tmp_path / "out.nut")) < 30
    said = "rcan-video: standard input is damaged: the output is whole but for what could not be read\n" if code else ""
    assert (done.returncode, done.stderr.decode()) == (code, said)
