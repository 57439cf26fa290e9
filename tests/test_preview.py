"""``--preview``: which frames, their colours, and the picture."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import SHARED, make_clip, picture, to_frame
from test_cli import Cli, cli  # noqa: F401

from rcan_video import errors
from rcan_video.frames import ColorTags, PlaneLayout
from rcan_video.options import DeviceOptions, ModelOptions, Options, SizeOptions
from rcan_video.pictures import read_picture
from rcan_video.preview import Still, look, preview
from rcan_video.report import before_after
from rcan_video.resize import reduce

CLIPS = sorted((SHARED / "data/clips").glob("*"))
QUICK = DeviceOptions("cpu", threads=1, engine="torch")
LIMIT = 0.5  # codes of 8 bits, on the mean of a channel


def stills(clip: Path, time: Fraction | None = None, **more: object) -> list[Still]:
    options = Options(str(clip), "out.png", device=QUICK, **more)  # type: ignore[arg-type]
    return look(options, time, lambda text: None)


def shift(still: Still) -> float:
    """The largest mean difference of a channel from the source, after reduction, in codes."""
    scale = still.result.shape[0] // still.source.shape[0]
    back = reduce(still.result, scale).astype(float)
    return float(np.abs((back - still.source).mean((0, 1))).max())


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "tags"),
    [
        ("libx264", "yuv420p", ColorTags(1, 1, 1, 1)),
        ("libx264", "yuv420p", ColorTags()),
        ("libx264", "yuv444p", ColorTags(6, 1, 1, 2)),
        ("libx265", "yuv420p10le", ColorTags(9, 9, 16, 1)),
        ("ffv1", "gray", ColorTags()),
        ("ffv1", "bgr0", ColorTags()),
    ],
)
def test_no_colour_is_shifted(tmp_path: Path, codec: str, pix_fmt: str, tags: ColorTags) -> None:
    """On what a video may be stored as: gradients of saturated colours."""
    layout = PlaneLayout.parse(pix_fmt) or PlaneLayout("rgb")
    top = 1 << (layout.depth - 8)

    def draw(index: int) -> object:
        planes = []
        for k, (h, w) in enumerate(layout.shapes(96, 64)):
            y, x = np.mgrid[:h, :w]
            planes.append(
                ((60 + 100 * (x / w) * (k != 1) + 90 * (y / h) * (k != 2)) * top).astype(f"u{layout.sample_bytes}")
            )
        return to_frame(planes, layout.pix_fmt, (96, 64))

    clip = make_clip(tmp_path / "in.mkv", codec=codec, pix_fmt=pix_fmt, size=(96, 64), frames=2, tags=tags, draw=draw)  # type: ignore[arg-type]
    (still,) = stills(clip, Fraction(0))
    assert still.source.shape == (64, 96, 3) and still.result.shape == (128, 192, 3)
    assert np.ptp(still.source.mean((0, 1))) > 3 or pix_fmt == "gray"
    assert shift(still) < LIMIT


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS, reason="no shared test data here")
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_no_colour_of_a_real_clip_is_shifted(clip: Path) -> None:
    for still in stills(clip, Fraction(1)):
        assert shift(still) < LIMIT


def detailed(amounts: Sequence[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.full((32, 48), 100) + rng.integers(0, 1 + amount, (32, 48)) for amount in amounts]


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("avi", "mpeg4")])
def test_three_frames_of_different_detail(tmp_path: Path, suffix: str, codec: str) -> None:
    amounts = [0, 20, 20, 20, 80, 20, 20, 2, 20, 20, 0]
    luma = detailed(amounts)
    chroma = [np.full((16, 24), 128, np.uint8)] * 2
    clip = make_clip(
        tmp_path / f"in.{suffix}",
        codec=codec,
        size=(48, 32),
        frames=len(amounts),
        options={"g": "4"},
        draw=lambda k: to_frame([luma[k].astype(np.uint8), *chroma], "yuv420p", (48, 32)),
    )
    found = stills(clip)
    assert {4, 7} < {round(s.at * 25) for s in found} and len(found) == 3
    part = stills(clip, start=Fraction(6, 25), duration=Fraction(3, 25))
    assert [round(s.at * 25) for s in part] == [6, 7, 8]


def test_the_frame_at_a_time(tmp_path: Path) -> None:
    layout = PlaneLayout("yuv", 8, 1, 1)
    clip = make_clip(tmp_path / "in.mp4", size=(48, 32), frames=20, options={"qp": "0", "g": "5"})
    (still,) = stills(clip, Fraction(13, 25) - Fraction(1, 1000))
    assert still.at == pytest.approx(13 / 25)
    wanted = picture(layout, (48, 32), 13)[0].astype(float)
    grey = still.source.astype(float) @ (0.299, 0.587, 0.114)
    assert np.corrcoef(wanted.ravel(), grey.ravel())[0, 1] > 0.97


def test_the_picture_is_written(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(48, 32), frames=3)
    options = Options(str(clip), str(tmp_path / "out.PNG"), device=QUICK, model=ModelOptions(scale=3))
    (still,) = preview(options, Fraction(0), lambda text: None)
    drawn = read_picture(tmp_path / "out.PNG")
    wanted = before_after(still.source, still.result, kernels=("bicubic", "lanczos"), title="Frame at 0.00 s")
    assert np.array_equal(drawn, wanted)


@pytest.mark.parametrize("more", [{"model": ModelOptions(scale=Fraction(3, 2))}, {"size": SizeOptions(height=50)}])
def test_a_size_in_between_is_shown_before_it_is_reduced(tmp_path: Path, more: dict[str, Any]) -> None:
    clip = make_clip(tmp_path / "in.mp4", size=(48, 32), frames=3)
    said: list[str] = []
    (still,) = preview(Options(str(clip), str(tmp_path / "o.png"), device=QUICK, **more), Fraction(0), said.append)
    assert still.result.shape == (64, 96, 3)
    assert said == ["the picture shows what the network makes, 2 times as large, before that is reduced"]


@pytest.mark.parametrize(
    ("change", "time", "kind", "words"),
    [
        ({"output": "out.mp4"}, None, errors.UsageError, "give OUTPUT an ending of .png"),
        ({}, 9, errors.InputError, "ends before --preview 9: its last frame comes at 0.080 s"),
        ({"input": "-"}, None, errors.UsageError, "--preview of standard input needs a time"),
        ({"input": "nobody.mp4"}, 0, errors.InputError, "there is no such file"),
        ({"output": "nowhere/out.png"}, 0, errors.OutputError, "the folder nowhere does not exist"),
        ({"ray": "local"}, 0, errors.UsageError, "--preview computes on this machine"),
        ({"model": ModelOptions("nobody")}, 0, errors.WeightsError, "nobody: there is no such file"),
    ],
)
def test_errors_are_one_sentence_and_leave_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    time: int | None,
    kind: type[Exception],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "in.mp4", size=(48, 32), frames=3)
    options = Options(**({"input": "in.mp4", "output": "out.png", "device": QUICK} | change))  # type: ignore[arg-type]
    with pytest.raises(kind, match=words.replace(".", r"\.")):
        preview(options, None if time is None else Fraction(time), lambda text: None)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_the_command(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "in.mp4", size=(48, 32), frames=5)
    quick = ("--device", "cpu", "--threads", "1")
    assert cli("in.mp4", "a.png", "--preview", "0.08", *quick).err.endswith("a.png: frame at 0.08 s\n")
    assert "b.png: frames at 0.04 s, 0.08 s, 0.12 s" in cli("in.mp4", "b.png", "--preview", *quick).err
    assert cli("in.mp4", "c.png", *quick, "--quiet", "--preview=0:00.1").err == ""
    refused = cli("--preview", "in.mp4", "d.png")
    assert refused.code == 2 and "put --preview behind the names of files" in refused.sentence
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png", "c.png", "in.mp4"]
