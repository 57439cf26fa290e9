"""What travels beside the video: copied bit for bit, at its own time, or refused before the first frame."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest
from clips import make_clip, needs_encoder, read_packets, read_video
from writers import open_writer

from rcan_video.errors import OutputError
from rcan_video.media.damage import Damage
from rcan_video.media.decode import Source
from rcan_video.media.encode import Writer
from rcan_video.media.order import Order
from rcan_video.media.outliers import Outliers
from rcan_video.media.packets import FilePackets, PipePackets, Window, demux
from rcan_video.media.verify import verify
from rcan_video.options import EncodeOptions, StreamOptions


def carry(
    clip: Path,
    out: Path,
    *,
    audio_codec: str | None = None,
    start: Fraction | None = None,
    duration: Fraction | None = None,
    codec: str | None = None,
    damage: Damage | None = None,
) -> Writer:
    """The main job without a network: the same pictures, the same audio, checked at the end."""
    damage = Damage(str(clip)) if damage is None else damage
    with Source(str(clip), start=start, duration=duration) as source:
        info = source.info
        first = info.start * info.time_base
        window = Window(
            None if start is None else first,
            None if duration is None else first + duration,
            Fraction(0) if start is None else -first,
        )
        packets = FilePackets(str(clip), [s.index for s in info.of_kind("audio")], window, damage)
        options = EncodeOptions(
            codec=codec,
            preset="ultrafast" if codec is None and out.suffix != ".webm" else None,
        )
        stop = threading.Event()
        with open_writer(
            out,
            info,
            1,
            options,
            streams=StreamOptions(audio_codec=audio_codec),
            window=window,
            packets=packets,
            name=out.name,
            stop=stop,
        ) as writer:
            for frame in source.frames():
                writer.write(frame)
            writer.finish()
    verify(out, out.name, writer.container, writer.ledger)
    return writer


def payload(path: Path, track: int = 0) -> list[bytes]:
    return [p.data for p in read_packets(path, "audio", track)]


def offset(path: Path, track: int = 0) -> Fraction:
    """Seconds from the first picture to the first audio packet."""
    first = read_packets(path, "audio", track)[0].time
    picture = min(t for t, _ in read_video(path) if t is not None)
    assert first is not None
    return first - picture


def sound(path: Path, track: int = 0) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], int]:
    """Decoded samples of the first channel, and their rate."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[track]
        resampler = av.AudioResampler(format="fltp", layout="mono")
        parts = [out.to_ndarray()[0] for frame in file.decode(stream) for out in resampler.resample(frame)]
        parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
        return np.concatenate(parts), stream.rate


def with_track(clip: Path, codec: str, layout: str, rate: int = 48000) -> Path:
    """A second of pictures beside a second of silence, in one packet where the codec allows it."""
    video = make_clip(clip.with_name("video.mkv"), codec="mpeg4", frames=25)
    channels = av.AudioLayout(layout).nb_channels
    with av.open(str(video)) as file, av.open(str(clip), "w") as output:
        copy = output.add_stream_from_template(file.streams.video[0])
        track = output.add_stream(codec, rate=rate, layout=layout)
        track.codec_context.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.zeros((1, channels * rate), np.int16), format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for sound in (frame, None):
            output.mux(track.encode(sound))
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    return clip


# -- copies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "audio_codec", "target"),
    [
        ("in.mp4", "aac", "out.mp4"),
        ("in.mp4", "aac", "out.mkv"),
        ("in.mp4", "aac", "out.mov"),
        ("in.mkv", "aac", "out.mp4"),
        ("in.mkv", "libmp3lame", "out.mp4"),
        ("in.mkv", "libopus", "out.webm"),
        ("in.mkv", "libopus", "out.mp4"),
        ("in.mkv", "flac", "out.mkv"),
        ("in.mov", "pcm_s16le", "out.mov"),
        ("in.mov", "pcm_s16le", "out.mkv"),
        ("in.mkv", "ac3", "out.mp4"),
    ],
)
def test_two_tracks_are_copied_bit_for_bit(tmp_path: Path, source: str, audio_codec: str, target: str) -> None:
    needs_encoder(audio_codec)
    clip = make_clip(tmp_path / source, frames=40, audio=2, audio_codec=audio_codec)
    out = tmp_path / target
    writer = carry(clip, out)
    assert writer.notices == []
    with av.open(str(out)) as file:
        assert [s.type for s in file.streams] == ["video", "audio", "audio"]
    for track in range(2):
        assert payload(out, track) == payload(clip, track)
        assert payload(out, track)
        assert abs(offset(out, track) - offset(clip, track)) <= Fraction(1, 1000)
    assert payload(out, 0) != payload(out, 1)


def test_a_number_of_channels_without_a_layout_goes_into_mp4_as_the_usual_one(tmp_path: Path) -> None:
    """As in AVI: MP4 wants to write the layout of PCM, and refused it when all frames were encoded."""
    clip = make_clip(tmp_path / "in.avi", codec="mpeg4", frames=20, audio=1, audio_codec="pcm_s16le")
    with av.open(str(clip)) as file:
        assert file.streams.audio[0].layout.name == "2 channels"
    carry(clip, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.streams.audio[0].layout.name == "stereo"
    assert b"".join(payload(tmp_path / "out.mp4")) == b"".join(payload(clip))


@pytest.mark.parametrize("target", ["out.mkv", "out.mov"])
def test_more_channels_than_any_layout_has(tmp_path: Path, target: str) -> None:
    clip = with_track(tmp_path / "in.mov", "pcm_s16le", "hexadecagonal")
    carry(clip, tmp_path / target)
    with av.open(str(tmp_path / target)) as file:
        assert file.streams.audio[0].layout.nb_channels == 16


def test_from_transport_stream_into_mp4(tmp_path: Path) -> None:
    """AAC changes its wrapping (ADTS to MP4's) there, and nothing else."""
    clip = make_clip(tmp_path / "in.ts", codec="mpeg2video", frames=40, audio=1)
    out = tmp_path / "out.mp4"
    carry(clip, out)
    assert payload(out) == [data[7:] for data in payload(clip)]
    assert abs(offset(out) - offset(clip)) <= Fraction(1, 1000)


@pytest.mark.parametrize("audio_start", [Fraction(1, 4), Fraction(1)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_that_begins_later_still_does(tmp_path: Path, audio_start: Fraction, suffix: str) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=50, audio=1, audio_start=audio_start)
    out = tmp_path / f"out{suffix}"
    carry(clip, out)
    assert offset(clip) > audio_start - Fraction(1, 20)
    assert abs(offset(out) - offset(clip)) <= Fraction(1, 1000)
    assert payload(out) == payload(clip)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_language_title_and_disposition(tmp_path: Path, suffix: str) -> None:
    plain = make_clip(tmp_path / "plain.mkv", frames=10, audio=2)
    clip = tmp_path / "in.mkv"
    with av.open(str(plain)) as file, av.open(str(clip), "w") as output:
        copies = {s.index: output.add_stream_from_template(s) for s in file.streams}
        copies[1].metadata.update(language="jpn", title="Comments")
        copies[2].metadata["language"] = "fra"
        copies[1].disposition = av.stream.Disposition.comment
        copies[2].disposition = av.stream.Disposition.default
        for packet in file.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                output.mux(packet)
    out = tmp_path / f"out{suffix}"
    carry(clip, out)
    with av.open(str(out)) as file:
        first, second = file.streams.audio
        assert [first.metadata["language"], second.metadata["language"]] == ["jpn", "fra"]
        assert second.disposition & av.stream.Disposition.default
        assert not first.disposition & av.stream.Disposition.default
        if suffix == ".mkv":
            assert first.metadata["title"] == "Comments"
            assert first.disposition & av.stream.Disposition.comment


def test_packets_keep_pace_with_the_video(tmp_path: Path) -> None:
    """A file whose sound comes in one lump at its end cannot be played from a disc or a network."""
    clip = make_clip(tmp_path / "in.mp4", frames=300, rate=25, audio=1, options={"preset": "ultrafast"})
    out = tmp_path / "out.mkv"
    carry(clip, out)
    now = {"video": Fraction(0), "audio": Fraction(0)}
    with av.open(str(out)) as file:
        for packet in file.demux():
            if packet.size and packet.dts is not None:
                now[packet.stream.type] = packet.dts * Fraction(packet.time_base)
                assert abs(now["video"] - now["audio"]) < Fraction(1, 2)
    assert min(now.values()) > 11


# -- a part of it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "duration"), [(1, 1), (None, 1), (Fraction(6, 5), None), (11, 1)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_window_takes_the_sound_of_its_pictures(
    tmp_path: Path, start: Fraction | int | None, duration: int | None, suffix: str
) -> None:
    clip = make_clip(
        tmp_path / f"in{suffix}", frames=25 * 13 if start == 11 else 75, audio=2, options={"preset": "ultrafast"}
    )
    out = tmp_path / f"out{suffix}"
    begin = Fraction(start or 0)
    carry(
        clip,
        out,
        start=None if start is None else begin,
        duration=None if duration is None else Fraction(duration),
    )
    video = [t for t, _ in read_video(clip) if t is not None]
    first = video[0] + begin
    end = first + duration if duration is not None else Fraction(10**6)
    for track in range(2):
        expected = [
            p
            for p in read_packets(clip, "audio", track)
            if p.time is not None and (start is None or p.time >= first) and p.time < end
        ]
        assert payload(out, track) == [p.data for p in expected]
        assert expected[0].time is not None
        assert abs(offset(out, track) - (expected[0].time - first)) <= Fraction(1, 1000)
    out_video = [t for t, _ in read_video(out) if t is not None]
    assert len(out_video) == len([t for t in video if first <= t < end])
    if start is not None:
        assert out_video[0] <= Fraction(1, 1000)


def test_a_window_on_a_container_that_does_not_begin_at_zero(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.ts", codec="mpeg2video", frames=75, audio=1)
    out = tmp_path / "out.mkv"
    carry(clip, out, start=Fraction(1), duration=Fraction(1))
    first = read_video(clip)[25][0]
    assert first is not None
    expected = [p for p in read_packets(clip, "audio") if p.time is not None and first <= p.time < first + 1]
    assert len(payload(out)) == len(expected) > 40
    assert abs(offset(out) - (expected[0].time - first)) <= Fraction(1, 1000)  # type: ignore[operator]


def test_the_bounds_of_a_window() -> None:
    window = Window(Fraction(1), Fraction(2))
    assert [window.holds(Fraction(t, 10)) for t in (9, 10, 19, 20)] == [False, True, True, False]
    assert Window().holds(Fraction(-5))
    assert Window().holds(Fraction(10**6))


# -- encoded again --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "source_codec"),
    [("in.mov", "pcm_s16le"), ("in.mkv", "libopus"), ("in.mkv", "libmp3lame"), ("in.mp4", "aac"), ("in.mkv", "flac")],
)
@pytest.mark.parametrize(
    ("audio_codec", "target", "frame"),
    [
        ("aac", "out.mp4", 1024),
        ("libopus", "out.webm", 960),
        ("flac", "out.mkv", 4608),
        ("flac", "out.mp4", 4608),
        ("libmp3lame", "out.mkv", 1152),
        ("libmp3lame", "out.mp4", 1152),
        ("pcm_s16le", "out.mov", 1024),
    ],
)
def test_sound_encoded_again_is_the_same_sound(
    tmp_path: Path, source: str, source_codec: str, audio_codec: str, target: str, frame: int
) -> None:
    needs_encoder(source_codec)
    needs_encoder(audio_codec)
    clip = make_clip(tmp_path / source, frames=50, audio=1, audio_codec=source_codec)
    out = tmp_path / target
    carry(clip, out, audio_codec=audio_codec)
    before, rate = sound(clip)
    after, rate_after = sound(out)
    assert rate_after == rate == 48000
    assert abs(len(after) - len(before)) <= 2 * frame  # priming and padding
    assert abs(offset(out) - offset(clip)) <= Fraction(frame + 1024, 48000)
    with av.open(str(out)) as file:
        assert file.streams.audio[0].metadata["language"] == "eng"
        assert file.streams.audio[0].codec_context.layout.name == "stereo"
    # The same sine: its peak in the spectrum, and its loudness.
    peaks = [np.argmax(np.abs(np.fft.rfft(x[8000:40000]))) * 48000 / 32000 for x in (before, after)]
    assert peaks[0] == peaks[1] == pytest.approx(220, abs=1.5)
    assert np.std(after[8000:40000]) == pytest.approx(np.std(before[8000:40000]), rel=0.1)


def test_a_frame_that_flushing_gives_comes_at_its_time(tmp_path: Path) -> None:
    """WMA's decoder holds one back, and says nothing of its time."""
    needs_encoder("wmav2")
    clip = with_track(tmp_path / "in.asf", "wmav2", "stereo")
    with av.open(str(clip)) as file:
        *_, last = file.decode(audio=0)
        assert last.pts is None
    carry(clip, tmp_path / "out.mkv", audio_codec="libopus")
    assert len(sound(tmp_path / "out.mkv")[0]) >= len(sound(clip)[0])


def test_a_rate_that_the_encoder_does_not_have_is_resampled(tmp_path: Path) -> None:
    clip = with_track(tmp_path / "in.mkv", "pcm_s16le", "mono", rate=44100)
    out = tmp_path / "out.webm"
    carry(clip, out, audio_codec="libopus")
    samples, rate = sound(out)
    assert rate == 48000
    assert abs(len(samples) / rate - 1) <= 0.05


# -- times that do not go forward -----------------------------------------------------------------------------------


def set_back(clip: Path, numbers: range, ticks: int) -> None:
    """Let packets ``numbers`` of the sound of a Matroska file come ``ticks`` earlier: no muxer would write that."""
    data = bytearray(clip.read_bytes())
    at = 0
    for number, packet in enumerate(payload(clip)):
        at = data.index(packet, at + 1)
        if number in numbers:  # its block begins with the track's number, the time from its cluster on, and flags
            time = int.from_bytes(data[at - 3 : at - 1], "big", signed=True) - ticks
            data[at - 3 : at - 1] = time.to_bytes(2, "big", signed=True)
    clip.write_bytes(data)


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4", "out.ts"])
def test_sound_whose_times_go_back_is_moved_up(tmp_path: Path, target: str) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=20, audio=1)
    set_back(clip, range(20, 30), 50)
    damage = Damage(str(clip), "fail")
    carry(clip, tmp_path / target, damage=damage)
    assert damage.others_notices() == [
        f"2 timestamps of the other streams of {clip} repeat, go back or are out of line with their neighbours: each "
        "was replaced by one that follows the packet before"
    ]
    assert not damage
    if target != "out.ts":  # which puts another header before each
        assert payload(tmp_path / target) == payload(clip)
    before, after = ([p.time or 0 for p in read_packets(path, "audio")] for path in (clip, tmp_path / target))
    moved = [number for number, (old, new) in enumerate(zip(before, after, strict=True)) if new - old > 0.005]
    assert after == sorted(after) and (target == "out.ts" or moved == [20, 21])


@pytest.mark.parametrize(("target", "moved"), [("out.mkv", 0), ("out.mp4", 1)])
def test_a_time_that_is_there_twice(tmp_path: Path, target: str, moved: int) -> None:
    """Matroska may repeat times: nothing is changed there."""
    clip = make_clip(tmp_path / "in.mkv", frames=20, audio=1)
    first, second = (packet.time for packet in read_packets(clip, "audio")[20:22])
    assert first is not None and second is not None
    set_back(clip, range(21, 22), round((second - first) * 1000))
    damage = Damage(str(clip))
    carry(clip, tmp_path / target, damage=damage)
    assert damage.moved == moved
    assert payload(tmp_path / target) == payload(clip)


def test_subtitles_may_begin_at_once_where_sound_may_not(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "out.mp4"), "w") as output:
        sound, text = output.add_stream("aac", rate=48000, layout="mono"), output.add_stream("mov_text")
        damage = Damage("in.mkv")
        order = Order(output, damage)
        for stream, moved in ((sound, [0, 1, 1]), (text, [1, 1, 1])):
            for at, count in zip((5, 5, 9), moved, strict=True):
                packet = av.Packet(b"x")
                packet.stream, packet.pts, packet.dts, packet.time_base = stream, at, at, Fraction(1, 1000)
                late = damage.moved
                assert order.keep(cast("Any", packet)) and damage.moved == count
                place = at + (count > late)
                assert (packet.pts, packet.dts) == (place, place)


@pytest.mark.parametrize(
    ("number", "seconds"), [(0, 2), (0, 20), (1, 2), (1, 20), (30, 2), (30, 20), (70, -1), (-2, 20)]
)
@pytest.mark.parametrize("target", ["out.mkv", "out.mp4", "out.mov"])
def test_one_time_that_is_out_of_line(tmp_path: Path, target: str, seconds: int, number: int) -> None:
    """All that followed was squeezed together behind it, or cut away as PCM."""
    codec = "pcm_s16le" if target == "out.mov" else "aac"
    clip = make_clip(tmp_path / "in.mkv", frames=75, audio=1, audio_codec=codec)
    right = [p.time or 0 for p in read_packets(clip, "audio")]
    number %= len(right)
    set_back(clip, range(number, number + 1), -1000 * seconds)
    damage = Damage(str(clip), "fail")
    carry(clip, tmp_path / target, damage=damage)
    assert damage.moved == 1 and not damage
    assert b"".join(payload(tmp_path / target)) == b"".join(payload(clip))
    if target != "out.mov":
        times = [p.time or 0 for p in read_packets(tmp_path / target, "audio")]
        shift = times[-1] - right[-1]
        assert all(abs(there - here - shift) < 0.025 for here, there in zip(right, times, strict=True))


def test_one_time_that_is_out_of_line_beyond_the_part_that_is_wanted(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=75, audio=1)
    set_back(clip, range(20, 21), -20000)
    carry(clip, tmp_path / "out.mkv", duration=Fraction(1))
    assert len(payload(tmp_path / "out.mkv")) >= 46


def test_sound_that_starts_again_long_before_is_left_out(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=75, audio=1)
    set_back(clip, range(100, 120), 1500)
    damage = Damage(str(clip))
    carry(clip, tmp_path / "out.mp4", damage=damage)
    whole = payload(clip)
    assert damage.others == 20 and damage.moved == 0
    assert payload(tmp_path / "out.mp4") == whole[:100] + whole[120:]


def test_subtitles_after_one_that_comes_much_too_late(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "out.mkv"), "w") as output:
        text = output.add_stream("srt")
        damage = Damage("in.mkv")
        order = Order(output, damage)
        kept = []
        for at in (1000, 22000, 3000, 21900, 23000):
            packet = av.Packet(b"x")
            packet.stream, packet.pts, packet.dts, packet.time_base = text, at, at, Fraction(1, 1000)
            if order.keep(cast("Any", packet)):
                kept.append(packet.pts)
    assert kept == [1000, 22000, 22001, 23000] and (damage.others, damage.moved) == (1, 1)


def test_sound_with_a_pause_waits_no_longer_than_muxers_sort(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "out.mkv"), "w") as output:
        sound, text = output.add_stream("aac", rate=48000, layout="mono"), output.add_stream("srt")
        outliers = Outliers(Damage("in.mkv"))
        came = []
        for stream, at in ((sound, 0), (text, 4000), (text, 6000), (sound, 9000)):
            packet = av.Packet(b"x")
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, at, at, Fraction(1, 1000)
            came.append([p.pts for p in outliers.take(cast("Any", packet))])
        assert came == [[], [4000], [0, 6000], []] and [p.pts for p in outliers.rest()] == [9000]


def test_a_last_time_that_nothing_confirms(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "out.mkv"), "w") as output:
        sound = output.add_stream("aac", rate=48000, layout="mono")
        for last, found in ((50_000, 50_000), (70_000, 40)):
            outliers, came = Outliers(Damage("in.mkv")), []
            for at in (0, 20, last):
                packet = av.Packet(b"x")
                packet.stream, packet.pts, packet.dts, packet.time_base = sound, at, at, Fraction(1, 1000)
                came += [p.pts for p in outliers.take(cast("Any", packet))]
            assert came + [p.pts for p in outliers.rest()] == [0, 20, found]


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return (len(body) + 8).to_bytes(4, "big") + kind + body


def inserted(file: bytes, place: tuple[bytes, ...], edits: bytes) -> bytes:
    """An MP4 file, or a part of it, with the content of every box at ``place`` replaced."""
    parts, at = [], 0
    while at < len(file):
        size, kind = int.from_bytes(file[at : at + 4], "big"), file[at + 4 : at + 8]
        content = file[at + 8 : at + size]
        if kind == place[0]:
            content = edits if len(place) == 1 else inserted(content, place[1:], edits)
        parts.append(box(kind, content))
        at += size
    return b"".join(parts)


@pytest.mark.parametrize("target", ["out.mkv", "out.mp4"])
@pytest.mark.parametrize("parts", [((0, 120), (200, 200)), ((40, 200), (80, 200))])
def test_an_edit_list_of_two_parts(tmp_path: Path, target: str, parts: tuple[tuple[int, int], ...]) -> None:
    """The packets that a part begins to be decoded from come at times that the part before has filled."""
    clip = make_clip(
        tmp_path / "in.mp4",
        frames=12,
        audio=1,
        time_base=Fraction(1, 48000),
        options={"bf": "0", "g": "1"},
        container_options={"movie_timescale": "1000", "use_editlist": "1"},
    )
    entries = [n.to_bytes(4, "big") for begin, lasts in parts for n in (lasts, begin * 48, 1 << 16)]
    edits = box(b"elst", bytes(4), len(parts).to_bytes(4, "big"), *entries)
    clip.write_bytes(inserted(clip.read_bytes(), (b"moov", b"trak", b"edts"), edits))
    with av.open(str(clip)) as file:
        kept = [bytes(p) for p in file.demux(audio=0) if p.size and not p.is_discard]
    damage = Damage(str(clip))
    carry(clip, tmp_path / target, damage=damage)
    assert damage.moved == 0
    assert payload(tmp_path / target)[-len(kept) :] == kept


# -- PCM where it has no times --------------------------------------------------------------------------------------


def with_gap(folder: Path, lost: range) -> Path:
    """Three seconds of pictures and PCM, 40 ms in each packet, without the packets ``lost``."""
    whole = make_clip(folder / "whole.mkv", frames=75, audio=1, audio_codec="pcm_s16le")
    with av.open(str(whole)) as file, av.open(str(folder / "in.mkv"), "w") as output:
        copies = [output.add_stream_from_template(stream, opaque=True) for stream in file.streams]
        number = 0
        for packet in file.demux():
            if packet.size:
                number += packet.stream_index == 1
                if packet.stream_index != 1 or number - 1 not in lost:
                    packet.stream = copies[packet.stream_index]
                    output.mux(packet)
    return folder / "in.mkv"


@pytest.mark.parametrize(
    ("target", "audio_codec"),
    [
        ("out.mov", None),
        ("out.mp4", None),
        ("out.mp4", "pcm_s24le"),
        ("out.mov", "pcm_f32le"),
        ("out.mov", "pcm_u8"),
        ("out.mov", "pcm_mulaw"),
        ("out.mov", "pcm_alaw"),
    ],
)
def test_a_gap_in_pcm_is_silence_where_it_has_no_times(tmp_path: Path, target: str, audio_codec: str | None) -> None:
    clip = with_gap(tmp_path, range(20, 60))
    carry(clip, tmp_path / target, audio_codec=audio_codec)
    samples, rate = sound(tmp_path / target)
    assert rate == 48000 and abs(len(samples) - 3 * rate) <= 96
    for at, loud in ((0.7, True), (0.81, False), (1.5, False), (2.39, False), (2.41, True), (2.9, True)):
        here = samples[round(at * rate) : round((at + 0.005) * rate)]
        assert (np.abs(here).max() > 0.3) is np.bool_(loud) and (loud or np.abs(here).max() < 0.01)


def pcm_at(folder: Path, seconds: Callable[[int], Fraction], count: int = 75) -> Path:
    """Noise, 40 ms in each of ``count`` packets at the times ``seconds``, in a container that keeps these finely."""
    noise = np.random.default_rng(0)
    whole = make_clip(folder / "whole.mkv", frames=count)
    with av.open(str(whole)) as file, av.open(str(folder / "in.nut"), "w") as output:
        video = output.add_stream_from_template(file.streams.video[0], opaque=True)
        audio = output.add_stream("pcm_s16le", rate=48000, layout="stereo")
        number = 0
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = video
                output.mux(packet)
                values = av.Packet(noise.integers(1, 30000, 1920 * 2, dtype=np.int16).tobytes())
                values.stream, values.time_base = audio, Fraction(1, 48000)
                values.pts = values.dts = round(seconds(number) * 48000)
                output.mux(values)
                number += 1
    return folder / "in.nut"


def samples_of(clip: Path) -> bytes:
    return b"".join(payload(clip))


@pytest.mark.parametrize(
    "jitter",
    [
        lambda k: Fraction(k, 25) + Fraction(k % 2 * 2, 1000),
        lambda k: Fraction(k, 25) * Fraction(10002, 10000),
        lambda k: Fraction(k, 25) * Fraction(9998, 10000),
        lambda k: Fraction(k, 25) + (Fraction(8, 100) if k >= 30 else 0),
    ],
    ids=["jitter", "slow", "fast", "step"],
)
def test_pcm_is_not_cut_to_times_that_jitter_or_drift(tmp_path: Path, jitter: Callable[[int], Fraction]) -> None:
    clip = pcm_at(tmp_path, jitter)
    damage = Damage(str(clip))
    carry(clip, tmp_path / "out.mov", damage=damage)
    assert samples_of(tmp_path / "out.mov") == samples_of(clip) and damage.others_notices() == []


def test_a_gap_of_a_second_in_pcm(tmp_path: Path) -> None:
    clip = pcm_at(tmp_path, lambda k: Fraction(k, 25) + (k >= 30))
    carry(clip, tmp_path / "out.mov")
    whole, at = samples_of(clip), 30 * 1920 * 4
    assert samples_of(tmp_path / "out.mov") == whole[:at] + bytes(48000 * 4) + whole[at:]


def test_pcm_that_overlaps_is_cut_where_it_has_no_times(tmp_path: Path) -> None:
    clip = with_gap(tmp_path, range(0))
    set_back(clip, range(30, 75), 150)
    damage = Damage(str(clip))
    carry(clip, tmp_path / "out.mov", damage=damage)
    assert damage.moved == 0 and damage.overlapping == 7200
    assert damage.others_notices()[0].startswith(f"7200 samples of the sound of {clip} were left out")
    whole = samples_of(clip)
    at = sum(len(packet) for packet in payload(clip)[:30])
    assert samples_of(tmp_path / "out.mov") == whole[:at] + whole[at + 7200 * len(whole) // (3 * 48000) :]


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "audio_codec", "sentence"),
    [
        (
            "out.webm",
            None,
            "webm cannot carry audio stream 1 (aac): choose another container, such as .mkv, "
            "or re-encode it with --audio-codec libopus",
        ),
        ("out.mp4", "libx264", "there is no audio encoder 'libx264': try aac, libopus, flac or libmp3lame"),
        ("out.mp4", "opium", "there is no audio encoder 'opium': try aac, libopus, flac or libmp3lame"),
    ],
)
def test_what_is_refused(tmp_path: Path, target: str, audio_codec: str | None, sentence: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, audio=1)
    with pytest.raises(OutputError) as caught:
        carry(clip, tmp_path / target, audio_codec=audio_codec)
    assert str(caught.value) == sentence
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


def test_pcm_into_webm_and_an_encoder_that_webm_refuses(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mov", frames=3, audio=1, audio_codec="pcm_s16le")
    with pytest.raises(OutputError, match=r"^webm cannot carry audio stream 1 \(pcm_s16le\): .*--audio-codec libopus$"):
        carry(clip, tmp_path / "out.webm")
    with pytest.raises(OutputError, match=r"^audio stream 1 \(pcm_s16le\) cannot be encoded as aac in webm: "):
        carry(clip, tmp_path / "out.webm", audio_codec="aac")


# -- the two kinds of packets ---------------------------------------------------------------------------------------


def test_packets_of_a_file_that_is_cut_off_end_quietly(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=50, audio=1)
    whole = payload(clip)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    packets = FilePackets(str(clip), [1], Window(), Damage(str(clip)))
    found = []
    while (packet := packets()) is not None:
        found.append(bytes(packet))
    packets.close()
    assert 0 < len(found) < len(whole)
    assert found == whole[: len(found)]


def test_a_number_of_channels_without_a_layout_is_encoded_as_the_usual_one(tmp_path: Path) -> None:
    """NUT stores how many there are, not which."""
    clip = make_clip(tmp_path / "in.nut", codec="ffv1", frames=5, audio=1, audio_codec="pcm_s16le")
    with av.open(str(clip)) as file:
        assert file.streams.audio[0].layout.name == "2 channels"
    carry(clip, tmp_path / "out.mkv", audio_codec="aac")
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert file.streams.audio[0].layout.name == "stereo"


def test_a_stream_that_appears_on_the_way_ends_nothing() -> None:
    """PyAV then looks for its flushing packet among streams that it does not know."""

    class Container:
        def demux(self, *streams: int) -> Iterator[str]:
            yield from ("packet", "flush")
            raise IndexError("list index out of range")

    assert list(demux(cast("Any", Container()))) == ["packet", "flush"]


def test_packets_of_a_pipe_wait_in_order(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=10, audio=2)
    with av.open(str(clip)) as file:
        packets = PipePackets(file, [2], Damage("-"))
        assert packets() is None
        met = [p for p in file.demux() if p.size]
        for packet in met:
            packets.put(packet)
        found = []
        while (packet := packets()) is not None:
            found.append(packet)
        assert len(found) == len([p for p in met if p.stream_index == 2]) - 1  # the last waits for its successor
        while (packet := packets(last=True)) is not None:
            found.append(packet)
        assert found == [p for p in met if p.stream_index == 2]
        packets.close()
        packets.put(found[0])
        assert packets() is None
