"""The plan of the output's video: which encoder, which format, which options, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rcan_video.errors import OutputError, RcanVideoError, UsageError
from rcan_video.frames import ColorSpec, ColorTags, PlaneLayout
from rcan_video.media.codecs import HLG, PQ, default_codec, plan_video
from rcan_video.media.probe import planar_layout
from rcan_video.options import EncodeOptions
from rcan_video.video import VideoInfo

BT709 = ColorTags(1, 1, 1, 1)


def info_of(pix_fmt: str = "yuv420p", tags: ColorTags = BT709, width: int = 320, height: int = 180) -> VideoInfo:
    layout = planar_layout(pix_fmt)
    return VideoInfo(
        path="in.mp4",
        container="mov,mp4",
        index=0,
        codec="h264",
        width=width,
        height=height,
        pix_fmt=pix_fmt,
        layout=layout,
        color=ColorSpec.resolve(tags, layout, width, height),
        time_base=Fraction(1, 25),
        rate=Fraction(25),
        start=0,
        duration=None,
        frames=None,
    )


@pytest.mark.parametrize(
    ("container", "pix_fmt", "transfer", "codec"),
    [
        ("mp4", "yuv420p", 1, "libx264"),
        ("matroska", "yuv444p", 2, "libx264"),
        ("mov", "gray", 2, "libx264"),
        ("mp4", "yuv420p10le", 1, "libx265"),
        ("mp4", "yuv420p", PQ, "libx265"),
        ("mp4", "yuv420p", HLG, "libx265"),
        ("matroska", "gbrp", 2, "libx264rgb"),
        ("matroska", "gbrp10le", 2, "libx265"),
        ("webm", "yuv420p", 1, "libvpx-vp9"),
        ("webm", "yuv420p10le", 1, "libsvtav1"),
        ("webm", "yuv420p", PQ, "libsvtav1"),
        ("nut", "yuv420p10le", PQ, "rawvideo"),
        ("yuv4mpegpipe", "yuv420p", 1, "rawvideo"),
        ("mpegts", "yuv420p", 1, "libx264"),
    ],
)
def test_the_encoder_follows_container_depth_and_hdr(container: str, pix_fmt: str, transfer: int, codec: str) -> None:
    layout = PlaneLayout.parse(pix_fmt)
    assert layout is not None
    assert default_codec(container, layout, transfer) == codec
    tags = ColorTags(2, 2, transfer, 0)
    assert plan_video(info_of(pix_fmt, tags), 2, container, EncodeOptions()).codec == codec


@pytest.mark.parametrize(
    ("codec", "source", "target"),
    [
        ("libx264", "yuv420p", "yuv420p"),
        ("libx264", "yuv422p10le", "yuv422p10le"),
        ("libx264", "gray", "gray"),
        ("libx264", "yuvj420p", "yuv420p"),
        ("libx264", "nv12", "yuv420p"),
        ("libx265", "yuv444p12le", "yuv444p12le"),
        ("libvpx-vp9", "yuv440p", "yuv440p"),
        ("ffv1", "yuv411p", "yuv411p"),
        ("ffv1", "gbrp16le", "gbrp16le"),
        ("rawvideo", "yuv410p", "yuv410p"),
        ("libx264", "yuva420p", "yuv420p"),
    ],
)
def test_the_pixel_format_is_kept_where_the_encoder_has_it(codec: str, source: str, target: str) -> None:
    plan = plan_video(info_of(source), 2, "matroska", EncodeOptions(codec=codec))
    assert (plan.pix_fmt, plan.layout.pix_fmt) == (target, target)
    assert plan.notices == ()


@pytest.mark.parametrize(
    ("codec", "source", "target"),
    [
        ("libx264", "yuv444p12le", "yuv444p10le"),
        ("libsvtav1", "yuv444p", "yuv420p"),
        ("libsvtav1", "yuv422p10le", "yuv420p10le"),
        ("prores_ks", "yuv420p", "yuv422p10le"),
        ("libvpx-vp9", "gray", "yuv420p"),
        ("libx265", "gbrp16le", "gbrp12le"),
    ],
)
def test_another_pixel_format_is_said(codec: str, source: str, target: str) -> None:
    plan = plan_video(info_of(source), 2, "matroska", EncodeOptions(codec=codec))
    assert plan.pix_fmt == target
    layout = planar_layout(source).pix_fmt
    assert plan.notices == (f"{codec} cannot store {layout}: the output is {target}",)


@pytest.mark.parametrize(("codec", "pix_fmt"), [("libx264rgb", "bgr24"), ("ffv1", "bgr0")])
def test_packed_rgb_is_the_same_as_planar(codec: str, pix_fmt: str) -> None:
    plan = plan_video(info_of("gbrp"), 1, "matroska", EncodeOptions(codec=codec, pix_fmt=pix_fmt))
    assert (plan.pix_fmt, plan.layout) == (pix_fmt, PlaneLayout("rgb"))
    assert plan.notices == ()


def test_a_wanted_pixel_format_is_taken_without_a_word() -> None:
    plan = plan_video(info_of(), 2, "mp4", EncodeOptions(pix_fmt="yuv444p"))
    assert (plan.codec, plan.pix_fmt, plan.notices) == ("libx264", "yuv444p", ())


def test_colour_is_the_source_s_within_yuv() -> None:
    source = info_of("yuv420p", ColorTags(9, 9, 16, 1, "topleft"))
    plan = plan_video(source, 2, "matroska", EncodeOptions(codec="ffv1"))
    assert plan.color == source.color
    assert plan.options["chroma_sample_location"] == "topleft"


def test_yuv_into_rgb_and_back() -> None:
    to_rgb = plan_video(
        info_of("yuv420p", ColorTags(1, 9, 16, 1, "left")), 2, "matroska", EncodeOptions(codec="libx264rgb")
    )
    assert to_rgb.color.tags == ColorTags(0, 9, 16, 2)
    assert to_rgb.color.full_range
    assert "chroma_sample_location" not in to_rgb.options
    to_yuv = plan_video(
        info_of("gbrp", ColorTags(0, 9, 13, 2)), 2, "mp4", EncodeOptions(codec="libx264", pix_fmt="yuv420p")
    )
    assert to_yuv.color.tags == ColorTags(1, 9, 13, 1)
    assert (to_yuv.color.matrix, to_yuv.color.full_range) == (1, False)


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        ("libx264", {"crf": "18"}),
        ("libx265", {"crf": "18", "x265-params": "log-level=none"}),
        ("libsvtav1", {"crf": "24"}),
        ("libvpx-vp9", {"crf": "24", "b": "0", "row-mt": "1"}),
        ("ffv1", {}),
        ("rawvideo", {}),
    ],
)
def test_default_options(codec: str, expected: dict[str, str]) -> None:
    assert plan_video(info_of(), 2, "matroska", EncodeOptions(codec=codec)).options == expected


@pytest.mark.parametrize(
    ("codec", "quality", "preset"),
    [
        ("libx264", "crf", "preset"),
        ("libx265", "crf", "preset"),
        ("libsvtav1", "crf", "preset"),
        ("libvpx-vp9", "crf", "deadline"),
    ],
)
def test_quality_and_preset_go_by_the_encoder_s_names(codec: str, quality: str, preset: str) -> None:
    options = plan_video(info_of(), 2, "matroska", EncodeOptions(codec=codec, crf=21.5, preset="p")).options
    assert (options[quality], options[preset]) == ("21.5", "p")
    assert plan_video(info_of(), 2, "matroska", EncodeOptions(codec=codec, crf=0)).options[quality] == "0"


@pytest.mark.parametrize("option", ["b", "qp"])
def test_no_default_quality_against_a_rate_that_was_asked_for(option: str) -> None:
    assert plan_video(info_of(), 2, "mp4", EncodeOptions(options={option: "9"})).options == {option: "9"}
    assert plan_video(info_of(), 2, "mp4", EncodeOptions(crf=3, options={option: "9"})).options == {
        "crf": "3",
        option: "9",
    }


def test_encoder_options_replace_and_parameter_lists_are_added_to() -> None:
    given = {"crf": "9", "x265-params": "keyint=5", "tune": "grain"}
    plan = plan_video(info_of(), 2, "mp4", EncodeOptions(codec="libx265", options=given))
    assert plan.options == {"crf": "9", "x265-params": "log-level=none:keyint=5", "tune": "grain"}
    plan = plan_video(info_of(), 2, "mp4", EncodeOptions(options={"x264-params": "bframes=0"}))
    assert plan.options["x264-params"] == "bframes=0"


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [
        ("libx264", "yuv420p", (160, 120)),
        ("h264", "yuv420p", (160, 120)),  # an alias of libx264
        ("libx265", "yuv420p", (160, 120)),
        ("libsvtav1", "yuv420p", (160, 120)),
        ("libx264", "yuv422p", (160, 121)),
        ("libx264", "yuv444p", (161, 121)),
        ("ffv1", "yuv420p", (161, 121)),
        ("libvpx-vp9", "yuv420p", (161, 121)),
    ],
)
def test_odd_sizes_are_cut_only_where_they_must_and_said(codec: str, pix_fmt: str, size: tuple[int, int]) -> None:
    plan = plan_video(info_of(pix_fmt, width=161, height=121), 1, "matroska", EncodeOptions(codec=codec))
    assert (plan.width, plan.height) == size
    if size == (161, 121):
        assert plan.notices == ()
    else:
        assert plan.notices == (f"{plan.codec} needs even sizes: 161x121 is cut to {size[0]}x{size[1]}",)


def test_a_doubled_odd_size_is_even() -> None:
    plan = plan_video(info_of(width=161, height=121), 2, "mp4", EncodeOptions())
    assert (plan.width, plan.height, plan.notices) == (322, 242, ())


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        (
            EncodeOptions(codec="libx266"),
            OutputError,
            "there is no encoder 'libx266': try libx264, libx265, libsvtav1, libvpx-vp9, ffv1 or prores_ks; "
            "did you mean 'libx265'?",
        ),
        (
            EncodeOptions(codec="aac"),
            OutputError,
            "aac is no video encoder: try libx264, libx265, libsvtav1, libvpx-vp9 or ffv1",
        ),
        (
            EncodeOptions(pix_fmt="yuv421p"),
            UsageError,
            "--pix-fmt yuv421p: FFmpeg knows no such pixel format; did you mean 'yuv422p'?",
        ),
        (
            EncodeOptions(codec="rawvideo", pix_fmt="vaapi"),
            UsageError,
            "--pix-fmt vaapi: frames cannot be written in it",
        ),
        (
            EncodeOptions(codec="ffv1", crf=18),
            UsageError,
            "ffv1 has no constant-quality setting: leave --crf out, or use --encoder-opt",
        ),
        (
            EncodeOptions(codec="ffv1", preset="slow"),
            UsageError,
            "ffv1 has no presets: leave --preset out, or use --encoder-opt",
        ),
    ],
)
def test_what_is_refused(options: EncodeOptions, kind: type[RcanVideoError], sentence: str) -> None:
    with pytest.raises(RcanVideoError) as caught:
        plan_video(info_of(), 2, "mp4", options)
    assert caught.type is kind
    assert str(caught.value) == sentence


def test_a_pixel_format_that_the_encoder_lacks() -> None:
    with pytest.raises(UsageError, match=r"^--pix-fmt yuv410p: libx264 takes only yuv420p, .*gray"):
        plan_video(info_of(), 2, "mp4", EncodeOptions(pix_fmt="yuv410p"))


@pytest.mark.parametrize(("width", "fits"), [(24, False), (31, False), (32, True)])
def test_pictures_on_which_x265_would_crash(width: int, fits: bool) -> None:
    info = info_of("yuv420p10le", width=width, height=64)
    assert plan_video(info, 2, "mp4", EncodeOptions()).codec == ("libx265" if fits else "libx264")
    if fits:
        return
    with pytest.raises(OutputError) as caught:
        plan_video(info, 2, "mp4", EncodeOptions(codec="libx265"))
    assert str(caught.value) == (
        f"libx265 takes no picture narrower than 64 pixels, and this one has {2 * width}: use --codec libx264 or ffv1"
    )


@pytest.mark.parametrize("source", ["yuv420p", "yuvj420p"])
def test_full_range_by_the_old_name_of_a_pixel_format(source: str) -> None:
    info = info_of(source, ColorTags(5, 2, 2, 1 if source == "yuv420p" else 2))
    color = plan_video(info, 2, "avi", EncodeOptions(codec="mjpeg", pix_fmt="yuvj420p")).color
    assert (color.full_range, color.tags.range, color.tags.matrix) == (True, 2, 5)
