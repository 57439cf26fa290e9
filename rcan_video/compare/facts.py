"""What both files say of themselves, in words: streams, properties, and what the encoder noted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from rcan_video.compare.clips import Clip
from rcan_video.compare.measure import Comparison
from rcan_video.media.notes import encoder_note
from rcan_video.progress import duration_text
from rcan_video.video import VideoInfo

_TRANSFERS = {16: "PQ (HDR)", 18: "HLG (HDR)"}
_NONE = "none"


class Row(NamedTuple):
    """One line of a table: what, in the source, in the output."""

    what: str
    before: str
    after: str


def streams(before: VideoInfo, after: VideoInfo) -> list[Row]:
    """Every stream of both files, by its order among its kind."""
    rows = [Row("video", _video(before), _video(after))]
    for kind in dict.fromkeys(stream.kind for stream in (*before.others, *after.others)):
        pairs = zip_longest(before.of_kind(kind), after.of_kind(kind))
        for number, pair in enumerate(pairs, 1):
            words = [
                _NONE if s is None else " ".join(w for w in (s.codec, s.detail, s.language, "cover" * s.cover) if w)
                for s in pair
            ]
            rows.append(Row(f"{kind} {number}", *words))
    return rows


def properties(source: Clip, output: Clip) -> list[Row]:
    """What probing tells of both videos."""
    columns = [_properties(clip) for clip in (source, output)]
    return [Row(name, columns[0][name], columns[1][name]) for name in columns[0]]


def tags(before: VideoInfo, after: VideoInfo) -> list[Row]:
    """Titles and the like, of the containers and of the video streams."""
    rows = []
    for place, pair in (("", (before.tags, after.tags)), ("video: ", (before.stream_tags, after.stream_tags))):
        names = sorted({name.lower() for name in (*pair[0], *pair[1])})
        lower = [{name.lower(): value for name, value in found.items()} for found in pair]
        rows += [Row(place + name, lower[0].get(name, _NONE), lower[1].get(name, _NONE)) for name in names]
    return rows


def settings(output: Clip, seconds: float, found: Comparison) -> list[tuple[str, str]]:
    """How the output was encoded, as far as its encoder noted it, and how this report came about."""
    note = encoder_note(output.info.path)
    late = max(abs(f.late) for f in found.figures)
    every = "every frame" if found.step == 1 else f"one frame in {found.step}"
    return [
        ("encoder's note", note or "none: this encoder writes no settings into its stream"),
        ("frames compared", f"{found.frames}; measured: {len(found.figures)}, {every}"),
        ("largest distance in time to the source's frame", f"{late * 1000:.1f} ms"),
        ("time to upscale", "not recorded: the file does not say it"),
        ("time to make this report", duration_text(seconds)),
    ]


def _video(info: VideoInfo) -> str:
    return f"{info.codec} {info.width}x{info.height} {info.pix_fmt}"


def _properties(clip: Clip) -> Mapping[str, str]:
    info, index = clip.info, clip.index
    color, tagged = info.color, info.color.tags
    assumed = f" ({', '.join(color.guessed)} assumed)" if color.guessed else ""
    size = "full" if color.full_range else "limited"
    found = {
        "file size": _bytes(Path(info.path).stat().st_size),
        "container": info.container,
        "picture": f"{info.width}x{info.height}",
        "pixel format": info.pix_fmt,
        "frames in the file": str(index.frames),
        "frame rate": f"{float(info.rate):.6g} frames/s on average",
        "first frame at": f"{float(info.start * info.time_base):.3f} s",
        "duration": "unknown" if info.duration is None else f"{float(info.duration):.3f} s",
        "video data": _bytes(int(index.size.sum())),
        "bits per pixel": f"{8 * float(index.size.sum()) / max(1, index.frames * info.width * info.height):.3f}",
        "colour": f"matrix {color.matrix}, {size} range, chroma {color.siting}{assumed}",
        "transfer": _TRANSFERS.get(tagged.transfer, "SDR or not said"),
        "pixel shape": "square" if info.sar is None else str(info.sar),
        "rotation or flip": _NONE if info.display_matrix is None else "kept for players; shown here as stored",
        "chapters": str(len(info.chapters)),
    }
    if info.interlaced:
        found["frame rate"] += ", interlaced"
    return found


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1_000_000 else f"{count / 1e3:.1f} kB"


def scale_text(before: VideoInfo, after: VideoInfo) -> str:
    """``x2``, ``x2.25``."""
    return re.sub(r"\.?0+$", "", f"x{after.width / before.width:.2f}")
