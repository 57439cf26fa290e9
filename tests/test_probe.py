"""What a video is: every field of ``VideoInfo``, from containers that say it and from those that do not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import av.logging
import numpy as np
import pytest
from clips import make_clip, read_video, shared, to_frame

from rcan_video.errors import InputError
from rcan_video.frames import ColorTags, PlaneLayout
from rcan_video.media.decode import probe
from rcan_video.media.probe import nominal_rate, planar_layout, time_base


def test_every_field(tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "in.mp4",
        size=(64, 48),
        frames=30,
        rate=Fraction(30000, 1001),
        audio=2,
        tags=ColorTags(1, 1, 1, 1),
        sar=Fraction(4, 3),
        options={"x264-params": "chromaloc=0"},
        metadata={"title": "A clip"},
    )
    info = probe(str(clip))
    assert info.path == str(clip)
    assert "mp4" in info.container.split(",")
    assert (info.index, info.codec) == (0, "h264")
    assert (info.width, info.height, info.pix_fmt) == (64, 48, "yuv420p")
    assert info.layout == PlaneLayout("yuv", 8, 1, 1)
    assert info.color.tags == ColorTags(1, 1, 1, 1, "left")
    assert (info.color.matrix, info.color.full_range, info.color.siting, info.color.guessed) == (1, False, "left", ())
    assert info.time_base == Fraction(1, 30000)
    assert info.rate == Fraction(30000, 1001)
    assert info.start == 0
    assert info.duration == Fraction(30 * 1001, 30000)
    assert info.frames == 30
    assert info.sar == Fraction(4, 3)
    assert info.tags["title"] == "A clip"
    assert [(s.index, s.kind, s.codec, s.language, s.detail) for s in info.others] == [
        (1, "audio", "aac", "eng", "2 ch, 48000 Hz"),
        (2, "audio", "aac", "deu", "2 ch, 48000 Hz"),
    ]
    assert info.of_kind("audio") == info.others
    assert info.of_kind("subtitle") == ()


def test_what_is_not_said_stays_unsaid(tmp_path: Path) -> None:
    info = probe(str(make_clip(tmp_path / "in.mkv", codec="ffv1")))
    assert info.color.tags == ColorTags(2, 2, 2, 0, None)
    assert info.color.guessed == ("matrix", "range", "siting")
    assert info.sar is None
    assert info.others == ()


def test_square_samples_are_no_aspect_ratio(tmp_path: Path) -> None:
    assert probe(str(make_clip(tmp_path / "in.mp4", sar=Fraction(1)))).sar is None


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(
    "tags",
    [
        ColorTags(1, 1, 1, 1),
        ColorTags(6, 6, 6, 1),
        ColorTags(9, 9, 16, 1),
        ColorTags(9, 9, 18, 2),
        ColorTags(5, 5, 4, 2),
    ],
)
def test_colour_tags(tmp_path: Path, codec: str, tags: ColorTags) -> None:
    color = probe(str(make_clip(tmp_path / "in.mkv", codec=codec, frames=1, tags=tags))).color
    found = color.tags
    assert (found.matrix, found.primaries, found.transfer, found.range) == (
        tags.matrix,
        tags.primaries,
        tags.transfer,
        tags.range,
    )
    assert color.full_range == (tags.range == 2)


@pytest.mark.parametrize(
    ("chromaloc", "siting"), [(0, "left"), (1, "center"), (2, "topleft"), (3, "top"), (4, "bottomleft"), (5, "bottom")]
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_chroma_siting(tmp_path: Path, chromaloc: int, siting: str, suffix: str) -> None:
    clip = make_clip(tmp_path / f"in{suffix}", frames=2, audio=1, options={"x264-params": f"chromaloc={chromaloc}"})
    color = probe(str(clip)).color
    assert (color.tags.siting, color.siting) == (siting, siting)
    assert "siting" not in color.guessed


def test_probing_leaves_the_log_level_as_it_was(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=1)
    before = av.logging.get_level()
    try:
        for level in (None, av.logging.ERROR):
            av.logging.set_level(level)
            probe(str(clip))
            assert av.logging.get_level() == level
    finally:
        av.logging.set_level(before)


def test_full_range_by_the_old_pixel_format(tmp_path: Path) -> None:
    info = probe(str(make_clip(tmp_path / "in.avi", codec="mjpeg", pix_fmt="yuvj420p", frames=2)))
    assert info.pix_fmt == "yuvj420p"
    assert info.layout == PlaneLayout("yuv", 8, 1, 1)
    assert info.color.full_range
    assert info.color.tags.range == 2


def test_cover_art_is_passed_over(tmp_path: Path) -> None:
    """Even where it comes first and is larger."""
    clip = tmp_path / "in.mp4"
    source = make_clip(tmp_path / "plain.mp4", size=(64, 48), frames=5)
    cover = av.CodecContext.create("png", "w")
    cover.width, cover.height, cover.pix_fmt, cover.time_base = 320, 320, "rgb24", Fraction(1, 25)  # type: ignore[attr-defined]
    (packet,) = cover.encode(av.VideoFrame.from_ndarray(np.zeros((320, 320, 3), np.uint8), format="rgb24"))  # type: ignore[attr-defined]
    picture = bytes(packet)
    with av.open(str(source)) as file, av.open(str(clip), "w") as output:
        art = output.add_mux_stream("png", width=320, height=320)
        art.disposition = av.stream.Disposition.attached_pic
        video = output.add_stream_from_template(file.streams.video[0])
        attached = av.Packet(picture)
        attached.stream, attached.pts, attached.dts, attached.time_base = art, 0, 0, Fraction(1, 25)
        output.mux(attached)
        for packet in file.demux(video=0):
            if packet.size:
                packet.stream = video
                output.mux(packet)
    info = probe(str(clip))
    assert (info.width, info.height, info.codec) == (64, 48, "h264")
    assert [s.codec for s in info.of_kind("video")] == ["png"]


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    """Music with its cover, as players keep it."""
    cover = make_clip(tmp_path / "cover.mkv", codec="mjpeg", pix_fmt="yuvj420p", size=(32, 32), frames=1)
    sound = make_clip(tmp_path / "sound.mkv", frames=5, audio=1)
    clip = tmp_path / "music.mp4"
    with av.open(str(sound)) as music, av.open(str(cover)) as picture, av.open(str(clip), "w") as output:
        pairs = [(s, output.add_stream_from_template(s, opaque=True)) for s in (music.streams[1], picture.streams[0])]
        pairs[1][1].disposition = av.stream.Disposition.attached_pic
        for source, target in pairs:
            for packet in source.container.demux(source):
                if packet.size:
                    packet.stream = target
                    output.mux(packet)
    with pytest.raises(InputError, match=r"music.mp4 has no video stream to upscale, only cover art"):
        probe(str(clip))


def test_tags_that_tell_of_the_bytes_of_the_stream_are_left_out(tmp_path: Path) -> None:
    """They would be wrong of the enlarged one: statistics as mkvmerge writes them, and who has encoded it."""
    stale = ["BPS", "BPS-eng", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES-eng", "_STATISTICS_WRITING_APP", "ENCODER"]
    clip = tmp_path / "in.mkv"
    with av.open(str(make_clip(tmp_path / "plain.mkv"))) as plain, av.open(str(clip), "w") as output:
        stream = output.add_stream_from_template(plain.streams.video[0])
        stream.metadata.update({key: "1" for key in stale} | {"title": "A view", "bpsx": "kept", "language": "ger"})
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    with av.open(str(clip)) as file:
        found = {key.upper() for key in file.streams.video[0].metadata}
        assert {key.upper() for key in stale} | {"DURATION"} <= found
    assert {key.lower(): value for key, value in probe(str(clip)).stream_tags.items()} == {
        "title": "A view",
        "bpsx": "kept",
        "language": "ger",
    }


def test_a_start_other_than_zero(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", pts=[25, 26, 27])
    info = probe(str(clip))
    assert info.start * info.time_base == 1
    assert read_video(clip)[0][0] == 1


def test_a_raw_stream_has_no_length(tmp_path: Path) -> None:
    info = probe(str(make_clip(tmp_path / "in.h264", frames=5)))
    assert (info.duration, info.frames) == (None, None)
    assert info.rate == 25


@pytest.mark.parametrize(
    ("average", "guessed", "base", "expected"),
    [
        (Fraction(30000, 1001), None, None, Fraction(30000, 1001)),
        (None, Fraction(24), None, Fraction(24)),
        (Fraction(0), None, Fraction(50), Fraction(50)),
        (Fraction(1000), Fraction(90000), Fraction(60), Fraction(60)),  # ticks, not frames
        (None, None, None, Fraction(25)),
        (Fraction(240), None, None, Fraction(240)),
    ],
)
def test_nominal_rate(average: Any, guessed: Any, base: Any, expected: Fraction) -> None:
    stream: Any = SimpleNamespace(average_rate=average, guessed_rate=guessed, base_rate=base, time_base=None)
    assert nominal_rate(stream) == expected
    assert time_base(stream) == 1 / expected


@pytest.mark.parametrize(
    ("pix_fmt", "layout"),
    [
        ("yuv420p", PlaneLayout("yuv", 8, 1, 1)),
        ("yuvj422p", PlaneLayout("yuv", 8, 1, 0)),
        ("yuv420p10le", PlaneLayout("yuv", 10, 1, 1)),
        ("yuv411p", PlaneLayout("yuv", 8, 2, 0)),
        ("yuv410p", PlaneLayout("yuv", 8, 2, 2)),
        ("yuv440p", PlaneLayout("yuv", 8, 0, 1)),
        ("nv12", PlaneLayout("yuv", 8, 1, 1)),
        ("nv21", PlaneLayout("yuv", 8, 1, 1)),
        ("nv16", PlaneLayout("yuv", 8, 1, 0)),
        ("p010le", PlaneLayout("yuv", 10, 1, 1)),
        ("p016le", PlaneLayout("yuv", 16, 1, 1)),
        ("yuyv422", PlaneLayout("yuv", 8, 1, 0)),
        ("y210le", PlaneLayout("yuv", 10, 1, 0)),
        ("yuva444p", PlaneLayout("yuv", 8, alpha=True)),
        ("yuv420p10be", PlaneLayout("yuv", 10, 1, 1)),
        ("gray", PlaneLayout("gray")),
        ("ya8", PlaneLayout("gray")),
        ("gray10le", PlaneLayout("gray", 10)),
        ("gray16be", PlaneLayout("gray", 16)),
        ("grayf32le", PlaneLayout("gray", 16)),
        ("monow", PlaneLayout("gray")),
        ("rgb24", PlaneLayout("rgb")),
        ("bgra", PlaneLayout("rgb", alpha=True)),
        ("bgr0", PlaneLayout("rgb")),
        ("rgb565le", PlaneLayout("rgb")),
        ("rgb48le", PlaneLayout("rgb", 16)),
        ("x2rgb10le", PlaneLayout("rgb", 10)),
        ("gbrp10le", PlaneLayout("rgb", 10)),
        ("gbrap", PlaneLayout("rgb", alpha=True)),
        ("rgba64be", PlaneLayout("rgb", 16, alpha=True)),
        ("yuva420p10le", PlaneLayout("yuv", 10, 1, 1, alpha=True)),
        ("gbrpf32le", PlaneLayout("rgb", 16)),
        ("pal8", PlaneLayout("rgb")),
        ("xyz12le", PlaneLayout("rgb", 12)),
    ],
)
def test_planar_layout(pix_fmt: str, layout: PlaneLayout) -> None:
    assert planar_layout(pix_fmt) == layout


@pytest.mark.parametrize("pix_fmt", ["cuda", "vaapi"])
def test_frames_that_lie_elsewhere_are_refused(pix_fmt: str) -> None:
    with pytest.raises(InputError, match=f"^frames in the pixel format {pix_fmt} cannot be read$"):
        planar_layout(pix_fmt)


def test_every_planar_layout_is_one_that_swscale_can_make() -> None:
    """Whatever the decoder gives is unpacked by swscale: it has to know the target."""
    for name in sorted(av.video.format.names):
        try:
            layout = planar_layout(name)
        except InputError:
            continue
        assert PlaneLayout.parse(layout.pix_fmt) == layout, name
        if layout.family != "yuv" or layout.depth not in (8, 10):
            continue
        planes = [np.full(shape, 64, np.uint8 if layout.depth == 8 else np.uint16) for shape in layout.shapes(16, 16)]
        assert to_frame(planes, layout.pix_fmt, (16, 16)).format.name == layout.pix_fmt


# -- what is no video -----------------------------------------------------------------------------------------------


def test_audio_alone(tmp_path: Path) -> None:
    clip = tmp_path / "in.m4a"
    with av.open(str(clip), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"in\.m4a has no video stream to upscale \(it holds audio\)$"):
        probe(str(clip))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            "Dear diary, today I have met a codec.",
            "it is no media file that FFmpeg can read, or its header is damaged or cut off",
        ),
        ("", "the file is empty"),
    ],
)
def test_files_that_are_no_media(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "in.mp4"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        probe(str(path))
    assert str(caught.value) == f"{path} cannot be opened: {sentence}"


def test_no_such_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        probe(str(tmp_path / "none.mp4"))
    assert str(caught.value) == f"{tmp_path / 'none.mp4'} cannot be opened: there is no such file"
    with pytest.raises(InputError) as caught:
        probe("x" * 300)
    assert str(caught.value) == f"{'x' * 300} cannot be opened: File name too long"
    with pytest.raises(InputError) as caught:
        probe(str(tmp_path))
    assert str(caught.value) == f"{tmp_path} is a directory: name a video file"


@pytest.mark.parametrize("name", ["concat:a.mp4", "a:b.mp4", "-dash.mp4", "100%.mp4", "http:x.mp4"])
def test_names_that_look_like_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    make_clip(tmp_path / "in.mp4", frames=2).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe(name).width == 64


PLAYLISTS = {
    "in.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
    "in.ffconcat": "ffconcat version 1.0\nfile {}\n",
    "in.mp4": "ffconcat version 1.0\nfile {}\n",
    "in.mpd": """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"><Period>
<AdaptationSet mimeType="video/mp4"><Representation id="0" bandwidth="1"><BaseURL>{}</BaseURL></Representation>
</AdaptationSet></Period></MPD>""",
    "in.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("secret", ["secret.ts", "{}/secret.ts", "http://127.0.0.1:9/secret.ts", "file:secret.ts"])
def test_a_playlist_opens_nothing(tmp_path: Path, name: str, secret: str) -> None:
    """Neither the network nor a file that it names, be it beside it: strangers do not say which files we read."""
    make_clip(tmp_path / "secret.ts", codec="mpeg2video", frames=30)
    playlist = tmp_path / name
    playlist.write_text(PLAYLISTS[name].format(secret.format(tmp_path)))
    with pytest.raises(InputError, match="cannot be opened: it is "):
        probe(str(playlist))


# -- real files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pix_fmt", "tags"),
    [
        ("odd/hdr10_av1_portrait.mp4", "yuv420p10le", ColorTags(9, 9, 16, 1)),
        ("odd/hlg_color_test.mp4", "yuv420p10le", ColorTags(9, 9, 18, 1)),
        ("odd/bt601.mp4", "yuv420p", ColorTags(6, 6, 6, 1)),
        ("odd/full_range_bt709.mp4", "yuvj420p", ColorTags(1, 1, 1, 2)),
        ("odd/tiny_2x2_rgb.mp4", "gbrp", ColorTags(0, 1, 1, 1)),
        ("odd/odd_dims_161x121.webm", "yuv420p", ColorTags(2, 2, 2, 1)),
        ("odd/gif_anim.gif", "bgra", ColorTags(2, 2, 2, 0)),
    ],
)
def test_shared_clips(name: str, pix_fmt: str, tags: ColorTags) -> None:
    info = probe(str(shared(name)))
    found = info.color.tags
    assert info.pix_fmt == pix_fmt
    assert (found.matrix, found.primaries, found.transfer, found.range) == (
        tags.matrix,
        tags.primaries,
        tags.transfer,
        tags.range,
    )


def test_shared_sample_aspect_ratio() -> None:
    assert probe(str(shared("odd/vp9_in_mp4_sar.mp4"))).sar == Fraction(64, 45)
