"""What ``Writer`` writes, read back by PyAV alone: samples, times, tags; and what it refuses."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from clips import Planes, make_clip, needs_encoder, picture, read_packets, read_video, to_frame
from numpy.testing import assert_array_equal
from writers import open_writer

from rcan_video.errors import OutputError, PipeClosed, UsageError
from rcan_video.frames import ColorSpec, ColorTags, Frame, PlaneLayout
from rcan_video.media.damage import Damage
from rcan_video.media.decode import Source, probe
from rcan_video.media.encode import Writer
from rcan_video.media.packets import Window
from rcan_video.options import EncodeOptions
from rcan_video.video import VideoInfo

LOSSLESS = EncodeOptions(codec="ffv1")


def info_of(
    pix_fmt: str = "yuv420p",
    *,
    size: tuple[int, int] = (64, 48),
    tags: ColorTags | None = None,
    time_base: Fraction = Fraction(1, 25),
    rate: Fraction = Fraction(25),
    sar: Fraction | None = None,
) -> VideoInfo:
    layout = PlaneLayout.parse(pix_fmt)
    assert layout is not None
    return VideoInfo(
        path="in.mp4",
        container="mov,mp4",
        index=0,
        codec="h264",
        width=size[0],
        height=size[1],
        pix_fmt=pix_fmt,
        layout=layout,
        color=ColorSpec.resolve(tags or ColorTags(), layout, *size),
        time_base=time_base,
        rate=rate,
        start=0,
        duration=None,
        frames=None,
        sar=sar,
    )


def frame_of(planes: Planes, pts: int, duration: int, index: int) -> Frame:
    return Frame(tuple(torch.from_numpy(p) for p in planes), pts, duration, index)


def write(
    path: Path,
    info: VideoInfo,
    options: EncodeOptions = EncodeOptions(),  # noqa: B008  (frozen)
    *,
    pts: Sequence[int] = range(5),
    last: int = 1,
    window: Window | None = None,
) -> Writer:
    """Frames of the default picture, in the target's own size and layout, at ``pts``."""
    with open_writer(path, info, 1, options, window=window, name=path.name, stop=threading.Event()) as writer:
        size = (info.width, info.height)
        for k, at in enumerate(pts):
            duration = pts[k + 1] - at if k + 1 < len(pts) else last
            writer.write(frame_of(picture(writer.target.layout, size, k), at, duration, k))
        writer.finish()
    return writer


# -- samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 48), (33, 21), (1, 1), (65, 48), (64, 49)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p", "gray", "gray10le", "yuv411p"])
def test_planar_samples_arrive_bit_for_bit(tmp_path: Path, pix_fmt: str, size: tuple[int, int]) -> None:
    info = info_of(pix_fmt, size=size)
    write(tmp_path / "out.mkv", info, LOSSLESS, pts=range(3))
    found = read_video(tmp_path / "out.mkv")
    assert len(found) == 3
    for index, (_, planes) in enumerate(found):
        for a, b in zip(planes, picture(info.layout, size, index), strict=True):
            assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options"),
    [
        ("ffv1", "bgr0", {}),
        ("libx264rgb", "bgr24", {"qp": "0"}),
        ("libx264rgb", "rgb24", {"qp": "0"}),
        ("png", "rgb24", {}),
    ],
)
def test_packed_encoders_hold_planar_rgb_bit_for_bit(
    tmp_path: Path, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    needs_encoder(codec)
    info = info_of("gbrp", tags=ColorTags(0, 1, 13, 2))
    out = tmp_path / "out.mov"
    if codec == "ffv1":
        out = tmp_path / "out.mkv"
    write(out, info, EncodeOptions(codec=codec, pix_fmt=pix_fmt, options=options), pts=range(2))
    with av.open(str(out)) as file:
        for index, frame in enumerate(file.decode(video=0)):
            rgb = frame.to_ndarray(format="rgb24")
            g, b, r = picture(info.layout, (64, 48), index)
            for found, expected in zip((rgb[..., 1], rgb[..., 2], rgb[..., 0]), (g, b, r), strict=True):
                assert_array_equal(found, expected)
    assert index == 1


def test_frames_larger_than_the_target_are_cut_at_the_right_and_the_bottom(tmp_path: Path) -> None:
    info = info_of(size=(33, 21))
    out = tmp_path / "out.mp4"
    with open_writer(out, info, 1, EncodeOptions(options={"qp": "0"}), name="out", stop=threading.Event()) as writer:
        assert (writer.target.width, writer.target.height) == (32, 20)
        writer.write(frame_of(picture(info.layout, (33, 21), 0), 0, 1, 0))
        writer.finish()
    ((_, planes),) = read_video(out)
    for a, b in zip(planes, picture(info.layout, (33, 21), 0), strict=True):
        assert_array_equal(a, b[: a.shape[0], : a.shape[1]])


def test_planes_may_be_views_and_are_let_go(tmp_path: Path) -> None:
    """Slices of a larger buffer, as the engine gives them; overwritten once the writer is through."""
    info = info_of("yuv444p")
    buffer = torch.zeros((2, 3, 50, 70), dtype=torch.uint8)
    with open_writer(tmp_path / "out.mkv", info, 1, LOSSLESS, name="out", stop=threading.Event()) as writer:
        for k in range(2):
            for c, plane in enumerate(picture(info.layout, (64, 48), k)):
                buffer[k, c, :48, :64] = torch.from_numpy(plane)
            writer.write(Frame(tuple(buffer[k, c, :48, :64] for c in range(3)), k, 1, k))
        writer.finish()
    for index, (_, planes) in enumerate(read_video(tmp_path / "out.mkv")):
        for a, b in zip(planes, picture(info.layout, (64, 48), index), strict=True):
            assert_array_equal(a, b)


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("libx264", ".mp4"), ("libx265", ".mp4"), ("libx265", ".mkv"), ("libsvtav1", ".mp4"), ("libvpx-vp9", ".webm")],
)
def test_very_short_clips(tmp_path: Path, codec: str, suffix: str, frames: int) -> None:
    needs_encoder(codec)
    out = tmp_path / f"out{suffix}"
    writer = write(out, info_of(), EncodeOptions(codec=codec), pts=range(10, 10 + frames))
    video = writer.ledger.video
    assert (writer.frames, video.first, video.last) == (frames, Fraction(10, 25), Fraction(frames + 9, 25))
    times = [time for time, _ in read_video(out)]
    assert [round(t * 25) for t in times if t is not None] == list(range(10, 10 + frames))


# -- times ----------------------------------------------------------------------------------------------------------

VFR = [7, 8, 20, 21, 23, 90, 91, 400]


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg4", "libsvtav1"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(
    "time_base", [Fraction(1, 600), Fraction(1, 30000), Fraction(1001, 30000), Fraction(1, 1200000), Fraction(1, 25)]
)
def test_mp4_keeps_every_time_exactly(tmp_path: Path, codec: str, suffix: str, time_base: Fraction) -> None:
    needs_encoder(codec)
    if (codec, suffix) == ("libsvtav1", ".mov"):
        pytest.skip("MOV has no AV1")
    if codec == "mpeg4" and time_base.denominator > 65535:
        pytest.skip("MPEG-4 part 2 has 16 bits for its time base")
    out = tmp_path / f"out{suffix}"
    write(out, info_of(time_base=time_base), EncodeOptions(codec=codec), pts=VFR)
    assert [time for time, _ in read_video(out)] == [t * time_base for t in VFR]


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".mkv"), ("libvpx-vp9", ".webm"), ("ffv1", ".mkv")])
def test_matroska_keeps_times_to_the_millisecond(tmp_path: Path, codec: str, suffix: str) -> None:
    time_base = Fraction(1, 30000)
    out = tmp_path / f"out{suffix}"
    pts = [1001 * k for k in (3, 4, 9, 10, 30)]
    write(out, info_of(time_base=time_base), EncodeOptions(codec=codec), pts=pts)
    found = [time for time, _ in read_video(out)]
    assert len(found) == len(pts)
    for a, b in zip(found, pts, strict=True):
        assert a is not None
        assert abs(a - b * time_base) <= Fraction(1, 1000)


def test_nut_keeps_the_time_base(tmp_path: Path) -> None:
    out = tmp_path / "out.nut"
    write(out, info_of(time_base=Fraction(1, 600)), pts=VFR)
    assert [time for time, _ in read_video(out)] == [Fraction(t, 600) for t in VFR]


@pytest.mark.parametrize("reordered", [True, False])
@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", ".mp4"), ("libx264", ".mkv"), ("libx265", ".mp4"), ("mpeg4", ".mov")]
)
def test_the_last_frame_lasts_as_long_as_it_did(tmp_path: Path, codec: str, suffix: str, reordered: bool) -> None:
    """In MP4 too, which stores durations in decoding order: where frames are reordered, the last is not last there."""
    needs_encoder(codec)
    out = tmp_path / f"out{suffix}"
    options = EncodeOptions(codec=codec, options={"bf": "2" if reordered else "0"})
    pts = [0, 40, 80, 120, 160, 200, 240, 1000]
    write(out, info_of(size=(80, 48), time_base=Fraction(1, 1000)), options, pts=pts, last=500)
    with av.open(str(out)) as file:
        assert file.duration is not None
        assert abs(Fraction(file.duration, av.time_base) - Fraction(1500, 1000)) <= Fraction(1, 1000)
    with Source(str(out)) as source:  # and we read it so
        *_, last = source.frames()
        assert last.duration * source.info.time_base == Fraction(1, 2)


def test_a_window_moves_every_time(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    window = Window(Fraction(1), shift=Fraction(-1))
    writer = write(out, info_of(time_base=Fraction(1, 600)), pts=[600, 624, 648], window=window)
    assert [time for time, _ in read_video(out)] == [0, Fraction(24, 600), Fraction(48, 600)]
    assert (writer.ledger.video.first, writer.ledger.video.last) == (0, Fraction(48, 600))


# -- tags -----------------------------------------------------------------------------------------------------------

TAGS = [
    ColorTags(1, 1, 1, 1, "left"),
    ColorTags(6, 6, 6, 1, "center"),
    ColorTags(9, 9, 16, 1, "topleft"),
    ColorTags(9, 9, 18, 2, "left"),
    ColorTags(5, 5, 1, 2, "center"),
]


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", ".mp4"), ("libx264", ".mkv"), ("libx265", ".mp4"), ("libx265", ".mov")]
)
def test_tags_out_are_tags_in(tmp_path: Path, codec: str, suffix: str, tags: ColorTags) -> None:
    out = tmp_path / f"out{suffix}"
    write(out, info_of(tags=tags), EncodeOptions(codec=codec), pts=[0])
    assert probe(str(out)).color.tags == tags


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libvpx-vp9", ".webm"), ("libsvtav1", ".mp4"), ("ffv1", ".mkv"), ("prores_ks", ".mov")]
)
def test_tags_of_other_encoders(tmp_path: Path, codec: str, suffix: str) -> None:
    needs_encoder(codec)
    tags = ColorTags(9, 9, 16, 1)
    out = tmp_path / f"out{suffix}"
    pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    write(out, info_of(pix_fmt, tags=tags), EncodeOptions(codec=codec), pts=[0])
    assert replace(probe(str(out)).color.tags, siting=None) == tags


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_untagged_stays_untagged(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    write(out, info_of(), pts=[0])
    assert replace(probe(str(out)).color.tags, siting=None) == ColorTags(2, 2, 2, 0, None)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("libx264", ".mp4"), ("libx264", ".mkv"), ("libx265", ".mov"), ("mpeg4", ".mkv"), ("libsvtav1", ".mp4")],
)
def test_sample_aspect_ratio(tmp_path: Path, codec: str, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    writer = write(out, info_of(sar=Fraction(64, 45)), EncodeOptions(codec=codec), pts=[0])
    assert probe(str(out)).sar == Fraction(64, 45)
    assert writer.notices == []


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx-vp9", ".webm"), ("libsvtav1", ".mkv"), ("ffv1", ".mkv")])
def test_a_sample_aspect_ratio_that_gets_lost_is_said(tmp_path: Path, codec: str, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    writer = write(out, info_of(sar=Fraction(64, 45)), EncodeOptions(codec=codec), pts=[0])
    assert probe(str(out)).sar is None, "PyAV tells the container now: the notice has to go"
    container = "webm" if suffix == ".webm" else "matroska"
    assert writer.notices == [f"{codec} in {container} loses the sample aspect ratio 64/45: .mp4 keeps it"]


@pytest.mark.parametrize(("suffix", "tag"), [(".mp4", "hvc1"), (".mov", "hvc1")])
def test_hevc_in_mp4_is_tagged_for_every_player(tmp_path: Path, suffix: str, tag: str) -> None:
    out = tmp_path / f"out{suffix}"
    write(out, info_of(), EncodeOptions(codec="libx265"), pts=[0])
    with av.open(str(out)) as file:
        assert file.streams.video[0].codec_context.codec_tag == tag


def test_metadata_of_the_file_and_the_stream(tmp_path: Path) -> None:
    info = replace(info_of(), tags={"title": "A clip"}, stream_tags={"language": "fra"})
    write(tmp_path / "out.mkv", info, pts=[0])
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert file.metadata["title"] == "A clip"
        assert file.streams.video[0].metadata["language"] == "fra"


# -- options and refusals -------------------------------------------------------------------------------------------


def test_encoder_options_reach_the_encoder(tmp_path: Path) -> None:
    options = EncodeOptions(options={"g": "2", "bf": "0", "x264-params": "scenecut=0"}, preset="ultrafast")
    write(tmp_path / "out.mp4", info_of(), options, pts=range(6))
    assert [p.keyframe for p in read_packets(tmp_path / "out.mp4", "video")] == [True, False] * 3


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1", "libvpx-vp9"])
def test_an_option_that_the_encoder_does_not_have(tmp_path: Path, codec: str) -> None:
    out = tmp_path / "out.mkv"
    with pytest.raises(UsageError) as caught:
        write(out, info_of(), EncodeOptions(codec=codec, options={"g": "5", "sharpnes": "1"}))
    assert str(caught.value) == f"the encoder {codec} has no option 'sharpnes': see ffmpeg -h encoder={codec}"
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("out.xyz", EncodeOptions(), "no container is known for the ending '.xyz': use .mp4, .mkv, .mov or .webm"),
        ("out", EncodeOptions(), "no container is known for the ending '': use .mp4, .mkv, .mov or .webm"),
        (
            "out.webm",
            EncodeOptions(codec="libx264"),
            "webm cannot carry libx264 video: choose another container, such as .mkv",
        ),
        ("out.mkv", EncodeOptions(codec="gif"), "matroska cannot carry gif video: choose another codec"),
        (
            "out.mp4",
            EncodeOptions(preset="warp"),
            "the encoder libx264 does not open for 64x48 yuv420p: Invalid argument; "
            "see --codec, --preset and --encoder-opt",
        ),
        (
            "out.mp4",
            EncodeOptions(codec="libx265", crf=99),
            "the encoder libx265 does not open for 64x48 yuv420p: Invalid data found when processing input; "
            "see --codec, --preset and --encoder-opt",
        ),
    ],
)
def test_refusals_come_before_anything_is_written(
    tmp_path: Path, name: str, options: EncodeOptions, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OutputError) as caught:
        write(tmp_path / name, info_of(), options)
    assert str(caught.value) == sentence
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().out == ""


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        OutputError, match=r"^out\.mp4 cannot be written: its folder or the unfinished file in it is gone$"
    ):
        write(tmp_path / "none" / "out.mp4", info_of())


def test_containers_of_video_alone_say_that_they_leave_the_audio(tmp_path: Path) -> None:
    from rcan_video.media.packets import FilePackets

    clip = make_clip(tmp_path / "in.mp4", audio=1, frames=3)
    info = probe(str(clip))
    packets = FilePackets(str(clip), [1], Window(), Damage(str(clip)))
    out = tmp_path / "out.y4m"
    with open_writer(out, info, 1, EncodeOptions(), packets=packets, name="out", stop=threading.Event()) as writer:
        (plan,) = writer.plans
        assert plan.lossy and plan.sentence() == "audio stream 1 (aac) is left out: yuv4mpegpipe holds video alone"
        writer.finish()


# -- failures on the way --------------------------------------------------------------------------------------------


class Stdout:
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def test_standard_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = info_of("yuv422p10le")
    with (tmp_path / "out.nut").open("wb") as file:
        monkeypatch.setattr("sys.stdout", Stdout(file.fileno()))
        with open_writer(
            None, info, 1, EncodeOptions(), format="nut", name="standard output", stop=threading.Event()
        ) as writer:
            assert writer.target.codec == "rawvideo"
            for k in range(3):
                writer.write(frame_of(picture(info.layout, (64, 48), k), k, 1, k))
            writer.finish()
    found = read_video(tmp_path / "out.nut")
    assert [time for time, _ in found] == [0, Fraction(1, 25), Fraction(2, 25)]
    for index, (_, planes) in enumerate(found):
        for a, b in zip(planes, picture(info.layout, (64, 48), index), strict=True):
            assert_array_equal(a, b)


def test_a_reader_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error that ends the ``with`` is ours, although the trailer cannot be written either."""
    info = info_of("yuv444p", size=(640, 480))
    read, write_end = os.pipe()
    monkeypatch.setattr("sys.stdout", Stdout(write_end))
    with (
        pytest.raises(PipeClosed, match=r"^the reader of standard output has closed it$"),
        open_writer(
            None, info, 1, EncodeOptions(), format="nut", name="standard output", stop=threading.Event()
        ) as writer,
    ):
        os.close(read)
        for k in range(5):
            writer.write(frame_of(picture(info.layout, (640, 480), k), k, 1, k))
        writer.finish()
    os.close(write_end)


def test_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    info = info_of("yuv444p", size=(640, 480))
    out = tmp_path / "out.nut"
    out.symlink_to("/dev/full")
    with (
        pytest.raises(OutputError, match=r"^out\.nut cannot be written: the disk is full$"),
        open_writer(out, info, 1, EncodeOptions(), name="out.nut", stop=threading.Event()) as writer,
    ):
        for k in range(5):
            writer.write(frame_of(picture(info.layout, (640, 480), k), k, 1, k))
        writer.finish()


def test_an_error_of_the_caller_is_not_hidden_by_the_file_that_nobody_finished(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        open_writer(
            tmp_path / "out.gif", info_of("gbrp"), 1, EncodeOptions(codec="gif"), name="out", stop=threading.Event()
        ),
    ):
        raise ZeroDivisionError


def test_from_a_decoder_into_an_encoder_without_a_network(tmp_path: Path) -> None:
    """The planes that ``Source`` lends go through ``Writer`` as they are."""
    layout = PlaneLayout("yuv", 8, 1, 1)
    clip = make_clip(
        tmp_path / "in.mp4",
        frames=12,
        size=(66, 50),
        draw=lambda k: to_frame(picture(layout, (66, 50), k), "yuv420p", (66, 50)),
    )
    out = tmp_path / "out.mkv"
    with (
        Source(str(clip)) as source,
        open_writer(out, source.info, 1, LOSSLESS, name="out", stop=threading.Event()) as writer,
    ):
        for frame in source.frames():
            writer.write(frame)
        writer.finish()
    for (_, ours), (_, theirs) in zip(read_video(out), read_video(clip), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert_array_equal(a, b)
