"""What becomes of the streams beside the video, of chapters, of rotation and of HDR metadata."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import pytest
from av.sidedata.sidedata import Type
from clips import make_clip, needs_encoder, read_packets, shared

from rcan_video import ModelOptions, Options, StreamOptions, probe, upscale
from rcan_video.errors import OutputError
from rcan_video.options import DeviceOptions, EncodeOptions
from rcan_video.progress import Silent, StreamRow
from rcan_video.video import HdrMetadata

FRAMES = 6
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour
Style: Default,Arial,20,&H00FFFFFF

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.04,0:00:00.12,Default,,0,0,0,,{\\i1}Styled{\\i0} words
"""
SRT = "1\n00:00:00,080 --> 00:00:00,160\nPlain words\n"
FONT = b"no real font, but bytes that must survive"
SPHERICAL = {
    "Spherical": "true",
    "Stitched": "true",
    "StitchingSoftware": "none",
    "ProjectionType": "equirectangular",
}
CHAPTERS = [("Opening", 0, 100), ("End", 100, 240)]


class Listener(Silent):
    def __init__(self) -> None:
        self.notices: list[str] = []
        self.rows: list[StreamRow] = []

    def streams(self, rows: Sequence[StreamRow]) -> None:
        self.rows += rows

    def notice(self, text: str) -> None:
        self.notices.append(text)


def rich_clip(folder: Path) -> Path:
    """Two sound tracks, styled and plain subtitles, a font, chapters and tags in one Matroska file."""
    video = make_clip(folder / "video.mkv", size=(48, 32), frames=FRAMES, audio=2)
    texts = []
    for name, text in (("styled.ass", ASS), ("plain.srt", SRT)):
        (folder / name).write_text(text)
        texts.append(folder / name)
    path = folder / "in.mkv"
    with av.open(str(path), "w") as output:
        sources = [av.open(str(p)) for p in (video, *texts)]
        pairs = [(s, output.add_stream_from_template(s, opaque=True)) for c in sources for s in c.streams]
        output.add_attachment("some.ttf", "application/x-truetype-font", FONT)
        output.set_chapters(
            [
                {"id": n, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                for n, (title, a, b) in enumerate(CHAPTERS, 1)
            ]
        )
        output.metadata["title"] = "A film"
        for (_, target), language in zip(pairs[1:], ("ger", "fre", "eng", "spa"), strict=True):
            target.metadata["language"] = language
        for source in sources:
            for packet in source.demux():
                if packet.size:
                    packet.stream = dict((id(s), t) for s, t in pairs)[id(packet.stream)]
                    output.mux(packet)
            source.close()
    return path


def options(source: Path, target: Path, **more: Any) -> Options:
    return Options(str(source), str(target), **{"device": DeviceOptions("cpu", threads=1), **more})


def streams(path: Path) -> list[tuple[str, str | None]]:
    """(kind or codec, language) of everything beside the video."""
    with av.open(str(path)) as file:
        return [
            (s.codec_context.name if s.codec_context else s.type, s.metadata.get("language"))
            for s in file.streams
            if s.index > 0 and s.name != "bin_data"
        ]


def chapters(path: Path) -> list[tuple[str, float, float]]:
    return [(c.tags["title"], float(c.start), float(c.end)) for c in probe(str(path)).chapters]


def words(path: Path) -> list[str]:
    """The text of all subtitles, without styles."""
    with av.open(str(path)) as file:
        found = []
        for stream in file.streams.subtitles:
            for packet in file.demux(stream):
                for subtitle in stream.decode(packet) if packet.size else ():
                    found.append(re.sub(r"\{.*?\}", "", cast("Any", subtitle).dialogue.decode()))
            file.seek(0)
        return found


def test_matroska_to_matroska_keeps_everything(tmp_path: Path) -> None:
    source, target = rich_clip(tmp_path), tmp_path / "out.mkv"
    heard = Listener()
    upscale(options(source, target, streams=StreamOptions(strict=True)), heard)
    assert heard.notices == []
    assert streams(target) == streams(source)
    assert [codec for codec, _ in streams(target)] == ["aac", "aac", "ssa", "srt", "attachment"]
    for kind, track in (("audio", 0), ("audio", 1), ("subtitle", 0), ("subtitle", 1)):
        before, after = (read_packets(path, kind, track) for path in (source, target))
        assert [p.data for p in after] == [p.data for p in before]
    with av.open(str(target)) as file:
        (font,) = file.streams.attachments
        assert (font.name, font.mimetype, bytes(font.data or b"")) == ("some.ttf", "application/x-truetype-font", FONT)
        assert file.metadata["title"] == "A film"
    assert chapters(target) == chapters(source) == [(title, a / 1000, b / 1000) for title, a, b in CHAPTERS]


def test_matroska_to_mp4_converts_what_it_can_and_names_what_it_cannot(tmp_path: Path) -> None:
    source, target = rich_clip(tmp_path), tmp_path / "out.mp4"
    heard = Listener()
    report = upscale(options(source, target), heard)
    assert heard.notices == []
    assert [row.after for row in heard.rows if row.why] == ["mov_text", "mov_text", "left out"]
    assert [n.partition(":")[0] for n in report.notices] == [
        "subtitle stream 3 (ssa) is converted to mov_text",
        "subtitle stream 4 (srt) is converted to mov_text",
        "attachment stream 5 (some.ttf) is left out",
    ]
    assert streams(target) == [("aac", "ger"), ("aac", "fre"), ("mov_text", "eng"), ("mov_text", "spa")]
    assert words(target) == ["Styled words", "Plain words"]
    times = [[float(p.time or 0) for p in read_packets(target, "subtitle", n) if len(p.data) > 2] for n in (0, 1)]
    assert times == [[0.04], [0.08]]
    assert chapters(target) == chapters(source)


def test_mp4_to_matroska_and_webm(tmp_path: Path) -> None:
    first = tmp_path / "first.mp4"
    upscale(options(rich_clip(tmp_path), first))
    upscale(options(first, tmp_path / "back.mkv"))
    assert [codec for codec, _ in streams(tmp_path / "back.mkv")] == ["aac", "aac", "srt", "srt"]
    assert words(tmp_path / "back.mkv") == [
        "Styled words",
        "Plain words",
    ]
    needs_encoder("libopus")
    upscale(options(first, tmp_path / "back.webm", streams=StreamOptions(audio_codec="libopus")))
    assert [codec for codec, _ in streams(tmp_path / "back.webm")][2:] == ["webvtt", "webvtt"]


@pytest.mark.parametrize(
    ("target", "container", "audio_codec", "others"),
    [("out.webm", "webm", "libopus", 4), ("out.ts", "mpegts", None, 2), ("out.mov", "mov", None, 4)],
)
def test_attachments_that_a_muxer_would_drop_are_named(
    tmp_path: Path, target: str, container: str, audio_codec: str | None, others: int
) -> None:
    """WebM's takes one and writes nothing; MPEG-TS's writes the number of a stream in which nothing comes."""
    needs_encoder("libopus")
    report = upscale(options(rich_clip(tmp_path), tmp_path / target, streams=StreamOptions(audio_codec=audio_codec)))
    assert f"attachment stream 5 (some.ttf) is left out: {container} has no place for attachments" in report.notices
    assert len(streams(tmp_path / target)) == others


@pytest.mark.parametrize(
    ("audio", "streams", "encode", "sentence"),
    [
        ("flac", {}, {}, "mpegts cannot carry audio stream 1 (flac): choose another container"),
        ("pcm_s16le", {}, {}, "mpegts cannot carry audio stream 1 (pcm_s16le): choose another container"),
        ("aac", {"audio_codec": "flac"}, {}, "mpegts cannot carry flac audio: choose another, such as aac"),
        ("aac", {}, {"codec": "ffv1"}, "mpegts cannot carry ffv1 video: choose another container"),
    ],
)
def test_what_mpegts_would_hide_as_private_data_is_refused(
    tmp_path: Path, audio: str, streams: dict[str, Any], encode: dict[str, Any], sentence: str
) -> None:
    """Its muxer takes everything, and no player finds it again."""
    clip = make_clip(tmp_path / "in.mkv", size=(48, 32), frames=2, audio=1, audio_codec=audio)
    chosen = options(clip, tmp_path / "out.ts", streams=StreamOptions(**streams), encode=EncodeOptions(**encode))
    with pytest.raises(OutputError) as caught:
        upscale(chosen)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("codec", ["aac", "ac3", "mp2", "libmp3lame", "libopus"])
def test_what_mpegts_knows_goes_in(tmp_path: Path, codec: str) -> None:
    needs_encoder(codec)
    clip = make_clip(tmp_path / "in.mkv", size=(48, 32), frames=FRAMES, audio=1, audio_codec=codec)
    upscale(options(clip, tmp_path / "out.ts"))
    assert read_packets(tmp_path / "out.ts", "audio")


def test_the_text_track_of_chapters_is_no_stream_of_its_own(tmp_path: Path) -> None:
    """AVI's muxer takes it for data; the loss of the chapters is told once."""
    first = tmp_path / "first.mp4"
    upscale(options(rich_clip(tmp_path), first, streams=StreamOptions(subtitles=False)))
    report = upscale(options(first, tmp_path / "out.avi"))
    assert [n for n in report.notices if "chapters" in n] == [
        "data stream 3 (bin_data) is left out: it holds the chapters, which avi has no place for",
        "avi holds no chapters: 2 are left out",
    ]
    assert streams(tmp_path / "out.avi") == [("aac", None), ("aac", None)]


def test_what_nobody_wants_is_left_out(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    chosen = StreamOptions(audio=False, subtitles=False, strict=True)
    upscale(options(rich_clip(tmp_path), target, streams=chosen))
    assert [codec for codec, _ in streams(target)] == ["attachment"]


def test_strict_refuses_a_loss_before_the_first_frame(tmp_path: Path) -> None:
    source, target = rich_clip(tmp_path), tmp_path / "out.mp4"
    with pytest.raises(OutputError, match=r"^--strict: subtitle stream 3 \(ssa\) is converted to mov_text.*and 1 more"):
        upscale(options(source, target, streams=StreamOptions(strict=True)))
    assert not list(tmp_path.glob("*out*"))


def test_a_part_takes_the_chapters_of_its_pictures(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    upscale(options(rich_clip(tmp_path), target, start=Fraction(12, 100)))
    assert chapters(target) == [("End", 0.0, 0.12)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(("degrees", "flip"), [(90, False), (180, False), (270, False), (0, True)])
def test_rotation_and_flips(tmp_path: Path, suffix: str, degrees: int, flip: bool) -> None:
    plain, source, target = tmp_path / "plain.mp4", tmp_path / "in.mp4", tmp_path / f"out{suffix}"
    make_clip(plain, size=(48, 32), frames=FRAMES)
    with av.open(str(plain)) as file, av.open(str(source), "w") as output:
        stream = output.add_stream_from_template(file.streams.video[0], opaque=True)
        cast("Any", stream).set_display_rotation(degrees, hflip=flip)
        for packet in file.demux(file.streams.video[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    upscale(options(source, target))
    before, after = probe(str(source)).display_matrix, probe(str(target)).display_matrix
    assert before is not None and after is not None
    # Matroska keeps an angle and a flip; MP4 keeps the nine numbers, whose shift is in pixels of the larger picture.
    assert after[:6] == pytest.approx(before[:6], abs=2)
    if suffix != ".mkv":
        assert after[6:8] == tuple(2 * shift for shift in before[6:8])


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
def test_static_hdr_metadata(tmp_path: Path, codec: str) -> None:
    needs_encoder(codec)
    params = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400"
    source = make_clip(
        tmp_path / "in.mp4",
        codec="libx265",
        pix_fmt="yuv420p10le",
        size=(64, 64),
        frames=3,
        options={"x265-params": f"log-level=none:hdr10=1:{params}"},
    )
    expected = HdrMetadata(
        primaries=(
            (Fraction(34000, 50000), Fraction(16000, 50000)),
            (Fraction(13250, 50000), Fraction(34500, 50000)),
            (Fraction(7500, 50000), Fraction(3000, 50000)),
            (Fraction(15635, 50000), Fraction(16450, 50000)),
        ),
        luminance=(Fraction(50, 10000), Fraction(1000)),
        light=(1000, 400),
    )
    assert probe(str(source)).hdr == expected
    target = tmp_path / "out.mp4"
    upscale(options(source, target, encode=EncodeOptions(codec=codec)))
    found = probe(str(target)).hdr
    assert found is not None and found.light == expected.light
    assert found.primaries is not None and found.luminance is not None
    assert expected.primaries is not None and expected.luminance is not None
    # AV1 counts in 1/65536 and luminances in 1/256 and 1/16384 cd/m2.
    flat = [value for point in found.primaries for value in point]
    wanted = [value for point in expected.primaries for value in point]
    assert [float(v) for v in flat] == pytest.approx([float(v) for v in wanted], abs=2e-5)
    assert [float(v) for v in found.luminance] == pytest.approx([float(v) for v in expected.luminance], abs=1e-4)


def test_an_encoder_without_hdr_metadata_is_named(tmp_path: Path) -> None:
    source = make_clip(
        tmp_path / "in.mkv",
        codec="libx265",
        pix_fmt="yuv420p10le",
        size=(64, 64),
        frames=2,
        options={"x265-params": "log-level=none:max-cll=1000,400"},
    )
    heard = Listener()
    upscale(options(source, tmp_path / "out.mkv", encode=EncodeOptions(codec="ffv1")), heard)
    assert "ffv1 writes no static HDR metadata: libx265 and libsvtav1 do" in heard.notices


@pytest.mark.parametrize("start", [None, Fraction(1, 10)])
@pytest.mark.parametrize(("suffix", "kind"), [(".mp4", "video"), (".mkv", "attachment"), (".mov", None)])
def test_cover_art(tmp_path: Path, suffix: str, kind: str | None, start: Fraction | None) -> None:
    video = make_clip(tmp_path / "video.mp4", size=(48, 32), frames=FRAMES)
    cover = make_clip(tmp_path / "cover.mkv", codec="mjpeg", pix_fmt="yuvj420p", size=(32, 32), frames=1)
    source, target = tmp_path / "in.mp4", tmp_path / f"out{suffix}"
    with av.open(str(video)) as film, av.open(str(cover)) as picture, av.open(str(source), "w") as output:
        pairs = [(c, output.add_stream_from_template(c.streams.video[0], opaque=True)) for c in (film, picture)]
        pairs[1][1].disposition = av.stream.Disposition.attached_pic
        for container, stream in pairs:
            for packet in container.demux():
                if packet.size:
                    image = bytes(packet)
                    packet.stream = stream
                    output.mux(packet)
    assert [s.cover for s in probe(str(source)).others] == [True]
    heard = Listener()
    report = upscale(options(source, target, model=ModelOptions(scale=2), start=start), heard)
    if kind is None:
        assert report.notices == ("video stream 1 (mjpeg) is left out: mov has no place for cover art",)
        return
    with av.open(str(target)) as file:
        assert file.streams.best("video") is file.streams[0]
        assert file.streams[1].type == kind or file.streams[1].disposition & av.stream.Disposition.attached_pic
        if kind == "video":
            assert next(bytes(p) for p in file.demux(file.streams[1]) if p.size) == image


def test_pictures_in_matroska_keep_their_names_and_kinds(tmp_path: Path) -> None:
    video = make_clip(tmp_path / "video.mkv", size=(48, 32), frames=FRAMES)
    kept = [("cover.jpg", "image/jpeg"), ("small_cover.jpg", "image/jpeg"), ("scan.tif", "image/tiff")]
    images = []
    for codec, pix_fmt in (("mjpeg", "yuvj420p"), ("mjpeg", "yuvj420p"), ("tiff", "rgb24")):
        picture = make_clip(tmp_path / "picture.mov", codec=codec, pix_fmt=pix_fmt, size=(32, 32), frames=1)
        images.append(read_packets(picture, "video")[0].data)
    with av.open(str(video)) as film, av.open(str(tmp_path / "in.mkv"), "w") as output:
        stream = output.add_stream_from_template(film.streams.video[0])
        for (name, mime), image in zip(kept, images, strict=True):
            output.add_attachment(name, mime, image)
        for packet in film.demux():
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    upscale(options(tmp_path / "in.mkv", tmp_path / "out.mkv"))
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert [(s.metadata["filename"], s.metadata["mimetype"]) for s in file.streams if s.index > 0] == kept
    assert [read_packets(tmp_path / "out.mkv", "video", k + 1)[0].data for k in range(3)] == images


def test_a_real_phone_clip_keeps_its_rotation_and_says_what_is_lost(tmp_path: Path) -> None:
    source = shared("odd/hlg_colorinfo_rot.mp4")
    heard = Listener()
    chosen = options(
        source,
        tmp_path / "out.mov",
        duration=Fraction(1, 100),
        device=DeviceOptions("cpu"),
        encode=EncodeOptions(preset="ultrafast"),
    )
    upscale(chosen, heard)
    assert "Dolby Vision metadata of each frame cannot be kept" in heard.notices
    with av.open(str(tmp_path / "out.mov")) as file:
        frame = next(file.decode(video=0))
        matrix = struct.unpack("<9i", bytes(cast("Any", frame.side_data).get(Type.DISPLAYMATRIX)))
        assert matrix[:6] == (0, 65536, 0, -65536, 0, 0)
        assert frame.color_trc == 18


@pytest.mark.parametrize("codec", [None, "aac"])
@pytest.mark.parametrize("target", ["out.mkv", "out.mp4"])
def test_sound_that_is_announced_and_never_comes_is_left_out(tmp_path: Path, target: str, codec: str | None) -> None:
    """As DVB does. Packets of a transport stream are of 188 bytes, and name their stream in the second and third."""
    source = make_clip(tmp_path / "in.ts", size=(48, 32), frames=FRAMES, audio=2, audio_codec="mp2")
    data = source.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    source.write_bytes(b"".join(p for p in packets if int.from_bytes(p[1:3], "big") & 0x1FFF != 0x102))
    chosen = options(source, tmp_path / target, streams=StreamOptions(audio_codec=codec))
    lost = "audio stream 2 (mp3float) is left out: no sound of it was found where the file begins"
    assert lost in upscale(chosen).notices
    assert len(streams(tmp_path / target)) == 1


def test_a_stream_without_a_decoder_is_named_and_left_out(tmp_path: Path) -> None:
    heard = Listener()
    chosen = options(
        shared("odd/subs_vtt.mkv"),
        tmp_path / "out.mkv",
        duration=Fraction(1, 100),
        device=DeviceOptions("cpu"),
        encode=EncodeOptions(preset="ultrafast"),
    )
    report = upscale(chosen, heard)
    assert report.notices == ("subtitle stream 2 (unknown) is left out: matroska does not take it",)
    assert heard.rows[2] == ("subtitle 2", "unknown", "left out", "matroska does not take it")


def test_side_data_that_pyav_does_not_know(tmp_path: Path) -> None:
    """The second view of an MV-HEVC clip has some; it is no reason to refuse the first."""
    info = probe(str(shared("odd/mvhevc_spatial.mov")))
    assert (info.width, info.height, info.hdr, info.unwritable) == (1934, 2160, None, ())


@pytest.mark.parametrize("suffix", [".mov", ".mp4", ".mkv"])
def test_a_timecode_is_kept_with_the_video(tmp_path: Path, suffix: str) -> None:
    """The muxer writes the track of it anew: copied, it would be refused."""
    plain = make_clip(tmp_path / "plain.mov", frames=5, size=(64, 48))
    source, target = tmp_path / "in.mov", tmp_path / f"out{suffix}"
    with av.open(str(plain)) as file, av.open(str(source), "w") as output:
        stream = output.add_stream_from_template(file.streams.video[0])
        stream.metadata["timecode"] = "01:02:03:04"
        for packet in file.demux(file.streams.video[0]):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    heard = Listener()
    upscale(options(source, target, streams=StreamOptions(strict=True)), heard)
    assert heard.rows[1].after == "left out" and heard.rows[1].why.startswith("it holds the timecode")
    with av.open(str(target)) as file:
        tags = {key.lower(): value for key, value in file.streams.video[0].metadata.items()}
        assert tags["timecode"] == "01:02:03:04"
        assert len(file.streams.data) == (0 if suffix == ".mkv" else 1)

    part = options(source, target, start=Fraction(2, 25), overwrite=True)
    report = upscale(part)
    (notice,) = report.notices
    assert notice.endswith("is left out: it holds the timecode of the first frame, and the part begins later")
    with av.open(str(target)) as file:
        assert "timecode" not in {key.lower() for key in file.streams.video[0].metadata}


def test_closed_captions_are_named(tmp_path: Path) -> None:
    source = shared("odd/cea_captions_hevc.mp4")
    with pytest.raises(OutputError, match="closed captions inside the video stream cannot be kept"):
        upscale(options(source, tmp_path / "out.mp4", streams=StreamOptions(strict=True)))


def test_360_and_3d_are_named(tmp_path: Path) -> None:
    """The first as cameras write it, a box of its own in the track; the second as x264 does, in the stream."""
    clip = make_clip(tmp_path / "in.mp4", options={"x264-params": "frame-packing=3"})
    data = clip.read_bytes()
    note = b"".join(f"<GSpherical:{k}>{v}</GSpherical:{k}>".encode() for k, v in SPHERICAL.items())
    box = bytes.fromhex("ffcc8263f8554a938814587a02521fdd") + b"<rdf:SphericalVideo>%b</rdf:SphericalVideo>" % note
    moov, trak = data.index(b"moov") - 4, data.index(b"trak") - 4
    end = trak + int.from_bytes(data[trak : trak + 4], "big")
    data = data[:end] + struct.pack(">I", len(box) + 8) + b"uuid" + box + data[end:]
    for at in (moov, trak):
        size = int.from_bytes(data[at : at + 4], "big") + len(box) + 8
        data = data[:at] + struct.pack(">I", size) + data[at + 4 :]
    clip.write_bytes(data)
    assert probe(str(clip)).unwritable == (
        "the note that this is a 360° video",
        "the note how the picture holds two views (3D)",
    )
    plain = make_clip(tmp_path / "plain.mp4", options={"x264-params": "frame-packing=6"})  # 6: two-dimensional
    assert probe(str(plain)).unwritable == ()


@pytest.mark.parametrize(("ending", "kept"), [("mov", True), ("webm", True), ("mkv", True), ("ts", False)])
def test_a_rotation_that_is_lost_is_named(tmp_path: Path, ending: str, kept: bool) -> None:
    clip = tmp_path / "in.mp4"
    with av.open(str(clip), "w") as output, av.open(str(make_clip(tmp_path / "plain.mp4"))) as plain:
        stream = output.add_stream_from_template(plain.streams.video[0])
        stream.set_display_matrix([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30])
        for packet in plain.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    assert probe(str(clip)).display_matrix is not None
    strict = options(clip, tmp_path / f"out.{ending}", streams=StreamOptions(strict=True))
    if kept:
        upscale(strict)
        assert probe(str(tmp_path / f"out.{ending}")).display_matrix is not None
        return
    with pytest.raises(OutputError, match="mpegts stores no rotation and no flip"):
        upscale(strict)
