"""Encoders in hardware: used where they open, replaced and named where they do not."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from clips import make_clip, read_video

from rcan_video import Options, upscale
from rcan_video.errors import OutputError, UsageError
from rcan_video.media import hardware
from rcan_video.media.decode import probe
from rcan_video.options import EncodeOptions


def refuse(*_: object) -> None:
    raise av.error.PermissionError(1, "no driver")


@pytest.mark.parametrize(
    ("name", "software"), [("h264_nvenc", "libx264"), ("hevc_qsv", "libx265"), ("av1_amf", "libsvtav1")]
)
def test_the_software_encoder_takes_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, software: str
) -> None:
    monkeypatch.setattr(hardware, "_try", refuse)
    info = probe(str(make_clip(tmp_path / "in.mp4", frames=2)))
    chosen = EncodeOptions(codec=name, crf=30, preset="p7", pix_fmt="nv12", options={"rc-lookahead": "8"})
    target = hardware.plan_for_this_machine(info, 2, "mp4", chosen)
    assert (target.codec, target.pix_fmt, target.options["crf"]) == (software, "yuv420p", "30")
    assert "preset" not in target.options and "rc-lookahead" not in target.options
    assert target.notices == (
        f"{software} encodes instead of {name}, without --preset, --pix-fmt, --encoder-opt: "
        "it does not open on this machine: no driver",
    )


def test_the_whole_job_says_so_and_does_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "_try", refuse)
    clip = make_clip(tmp_path / "in.mp4", frames=3)
    report = upscale(Options(str(clip), str(tmp_path / "out.mp4"), encode=EncodeOptions(codec="h264_nvenc")))
    assert report.notices == ("libx264 encodes instead of h264_nvenc: it does not open on this machine: no driver",)
    assert len(read_video(tmp_path / "out.mp4")) == 3


def test_one_that_is_not_part_of_this_ffmpeg(tmp_path: Path) -> None:
    info = probe(str(make_clip(tmp_path / "in.mp4", frames=2)))
    target = hardware.plan_for_this_machine(info, 2, "mp4", EncodeOptions(codec="hevc_omx"))
    assert target.notices == ("libx265 encodes instead of hevc_omx: this FFmpeg was built without it",)


def test_one_that_opens_is_used_and_its_own_mistakes_are_not_hidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hardware, "_try", lambda *_: None)
    info = probe(str(make_clip(tmp_path / "in.mp4", frames=2)))
    target = hardware.plan_for_this_machine(info, 2, "mp4", EncodeOptions(codec="h264_nvenc", crf=21, preset="p5"))
    assert (target.codec, target.notices) == ("h264_nvenc", ())
    assert {"rc": "vbr", "cq": "21", "preset": "p5"}.items() <= target.options.items()
    with pytest.raises(UsageError, match="--pix-fmt gray10le: h264_nvenc takes only"):
        hardware.plan_for_this_machine(info, 2, "mp4", EncodeOptions(codec="h264_nvenc", pix_fmt="gray10le"))


def test_software_is_not_tried_and_unknown_names_stay_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "_try", refuse)
    info = probe(str(make_clip(tmp_path / "in.mp4", frames=2)))
    assert hardware.plan_for_this_machine(info, 2, "mp4", EncodeOptions(codec="libx264")).codec == "libx264"
    with pytest.raises(OutputError, match="there is no encoder 'nope_nvenc'"):
        hardware.plan_for_this_machine(info, 2, "mp4", EncodeOptions(codec="nope_nvenc"))


def test_a_real_one_opens_or_is_replaced(tmp_path: Path) -> None:
    info = probe(str(make_clip(tmp_path / "in.mp4", size=(256, 256), frames=2)))
    target = hardware.plan_for_this_machine(info, 2, "mp4", EncodeOptions(codec="h264_nvenc"))
    assert (target.codec == "h264_nvenc") == (not target.notices)
