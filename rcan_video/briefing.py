"""What people are told before the first frame: the job in a line, the table of streams, what was found and chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rcan_video.frames import ColorSpec
from rcan_video.media.files import PIPE, shown
from rcan_video.progress import LEFT_OUT, StreamRow

if TYPE_CHECKING:
    from rcan_video.media.codecs import VideoTarget
    from rcan_video.media.encode import Writer
    from rcan_video.network.catalog import LoadedModel
    from rcan_video.options import Options
    from rcan_video.video import VideoInfo


def rows(info: VideoInfo, writer: Writer) -> list[StreamRow]:
    """The table of streams: the video that is upscaled, and what becomes of the others."""
    target = writer.target
    video = StreamRow(
        f"video {info.index}",
        f"{info.codec} {info.width}x{info.height} {info.pix_fmt}",
        f"{target.codec} {target.width}x{target.height} {target.pix_fmt}",
    )
    rows = [video]
    for plan in writer.plans:
        before = " ".join(word for word in (plan.info.codec, plan.info.detail, plan.info.language) if word)
        after = {"copy": "copied", "convert": plan.codec, "drop": LEFT_OUT}[plan.action]
        rows.append(StreamRow(f"{plan.info.kind} {plan.info.index}", before, after, plan.why))
    return rows


def warnings(info: VideoInfo, target: VideoTarget) -> list[str]:
    """What may turn out otherwise than people expect: a guessed matrix that the larger picture changes."""
    found = []
    guess = ColorSpec.resolve(info.color.tags, target.layout, target.width, target.height)
    if "matrix" in info.color.guessed and guess.matrix != info.color.matrix:
        found.append(
            f"{shown(info.path)} does not say which colour matrix it uses: it is read as BT.601, as its size suggests, "
            f"and stays untagged, but at {target.width}x{target.height} players may take it for BT.709"
        )
    return found


def details(info: VideoInfo, writer: Writer, model: LoadedModel) -> list[str]:
    """What was found and chosen."""
    color, target = info.color, writer.target
    assumed = f" ({', '.join(color.guessed)} assumed)" if color.guessed else ""
    options = " ".join(f"{key}={value}" for key, value in target.options.items()) or "no options"
    return [
        f"input: {info.codec} {info.pix_fmt} in {info.container}, {float(info.rate):.6g} frames/s, "
        f"matrix {color.matrix}, {'full' if color.full_range else 'limited'} range, chroma {color.siting}{assumed}",
        f"output: {target.codec} {target.pix_fmt} in {writer.container}, {options}",
        f"size: enlarged {model.scale} times{_reduced(target)}",
        f"weights: {model.path}, sha256 {model.sha256}",
    ]


def _reduced(target: VideoTarget) -> str:
    if target.reduced is None:
        return ""
    return f", then reduced to {target.width}x{target.height} by antialiased bicubic interpolation"


def description(options: Options, info: VideoInfo, target: VideoTarget, engine: str) -> str:
    """The job in a line; ``engine`` says what computes it."""
    name = "standard input" if options.input == PIPE else Path(options.input).name
    sizes = f"{info.width}x{info.height} to {target.width}x{target.height}"
    return f"{name} {sizes}, {options.model.model}, {engine}"
