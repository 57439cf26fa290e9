"""What an encoder is told by its options: quality and preset under the names that it knows, and static HDR metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite

from rcan_video.errors import UsageError
from rcan_video.frames import ColorTags
from rcan_video.options import EncodeOptions, Quality
from rcan_video.video import HdrMetadata


@dataclass(frozen=True, slots=True)
class Knobs:
    """How an encoder is told its quality: the option names, and what we choose where nothing is said.

    Constant quality throughout; the defaults aim at "no visible loss against the network's output". ``grades`` are the
    presets of --quality draft and best.
    """

    quality: str | None = None
    default_quality: float | None = None
    preset: str | None = None
    fixed: Mapping[str, str] | None = None
    grades: tuple[str, str] | None = None


KNOBS: Mapping[str, Knobs] = {
    "libx264": Knobs("crf", 18, "preset", grades=("veryfast", "slow")),
    "libx264rgb": Knobs("crf", 18, "preset", grades=("veryfast", "slow")),
    # log-level: x265 would write its banner over the progress bar.
    "libx265": Knobs("crf", 18, "preset", {"x265-params": "log-level=none"}, ("veryfast", "slow")),
    "libsvtav1": Knobs("crf", 24, "preset", grades=("11", "5")),
    # b=0 makes crf the only target; row-mt lets one 4K frame use all cores.
    "libvpx-vp9": Knobs("crf", 24, "deadline", {"b": "0", "row-mt": "1"}, ("realtime", "good")),
    "h264_nvenc": Knobs("cq", 19, "preset", {"rc": "vbr"}, ("p2", "p7")),
    "hevc_nvenc": Knobs("cq", 19, "preset", {"rc": "vbr"}, ("p2", "p7")),
    "av1_nvenc": Knobs("cq", 24, "preset", {"rc": "vbr"}, ("p2", "p7")),
    "h264_qsv": Knobs("global_quality", 19, "preset", grades=("veryfast", "veryslow")),
    "hevc_qsv": Knobs("global_quality", 19, "preset", grades=("veryfast", "veryslow")),
    "av1_qsv": Knobs("global_quality", 24, "preset", grades=("veryfast", "veryslow")),
    "h264_amf": Knobs("qvbr_quality_level", 19, "quality", {"rc": "qvbr"}, ("speed", "quality")),
    "hevc_amf": Knobs("qvbr_quality_level", 19, "quality", {"rc": "qvbr"}, ("speed", "quality")),
}

# What --quality adds to the default quality: some 6 halve or double the size.
_STEPS: Mapping[Quality, float] = {"draft": 6, "balanced": 0, "best": -4}

# Options by which a user chooses the rate otherwise; encoders would prefer our default quality to them.
_RATE_OPTIONS = frozenset({"b", "qp"})

# Encoders that write static HDR metadata, and the list of parameters that takes it.
_HDR_ENCODERS: Mapping[str, str] = {"libx265": "x265-params", "libsvtav1": "svtav1-params"}


def takes_crf(codec: str) -> bool:
    """Whether ``--crf`` means something to an encoder."""
    return KNOBS.get(codec, Knobs()).quality is not None


def writes_hdr(codec: str) -> bool:
    """Whether an encoder puts the static metadata of HDR10 into its stream."""
    return codec in _HDR_ENCODERS


def encoder_options(codec: str, options: EncodeOptions, tags: ColorTags, hdr: HdrMetadata | None) -> dict[str, str]:
    """All that ``codec`` is told by name: quality, preset, what ``tags`` and ``hdr`` say, and last the user's own.

    Raises UsageError for what this encoder does not have.
    """
    knobs = KNOBS.get(codec, Knobs())
    chosen = dict(knobs.fixed or {})
    quality = options.crf
    if quality is None and _RATE_OPTIONS.isdisjoint(options.options):
        quality = knobs.default_quality
        if quality is not None:
            quality += _STEPS[options.quality]
    if quality is not None:
        if not isfinite(quality):
            raise UsageError(f"--crf {quality} is no quality: give a number that {codec} knows")
        if knobs.quality is None:
            raise UsageError(f"{codec} has no constant-quality setting: leave --crf out, or use --encoder-opt")
        chosen[knobs.quality] = f"{quality:g}"
    if options.preset is not None:
        if knobs.preset is None:
            raise UsageError(f"{codec} has no presets: leave --preset out, or use --encoder-opt")
        chosen[knobs.preset] = options.preset
    elif knobs.preset is not None and knobs.grades is not None and options.quality != "balanced":
        chosen[knobs.preset] = knobs.grades[options.quality == "best"]
    if tags.siting is not None:
        chosen["chroma_sample_location"] = tags.siting
    given = [*(_hdr_parameters(codec, hdr).items() if hdr is not None else ()), *options.options.items()]
    for key, value in given:
        # Lists of parameters are added to, all else is replaced.
        chosen[key] = f"{chosen[key]}:{value}" if key.endswith("-params") and key in chosen else value
    return chosen


def _hdr_parameters(codec: str, hdr: HdrMetadata) -> dict[str, str]:
    """Static HDR metadata as an encoder wants it; empty for encoders that write none.

    x265 counts chromaticities in 0.00002 and luminances in 0.0001 cd/m2 (as the SEI message does), SVT-AV1 takes
    decimal fractions; both list the primaries as G, B, R, white.
    """
    x265 = codec == "libx265"
    if codec not in _HDR_ENCODERS:
        return {}
    parts = ["hdr10=1"] if x265 else []
    if hdr.primaries is not None and hdr.luminance is not None:
        red, green, blue, white = hdr.primaries
        lowest, highest = hdr.luminance

        def number(value: Fraction, unit: int) -> str:
            return str(round(value * unit)) if x265 else f"{float(value):.5f}"

        points = "".join(
            f"{name}({number(x, 50_000)},{number(y, 50_000)})"
            for name, (x, y) in (("G", green), ("B", blue), ("R", red), ("WP", white))
        )
        key = "master-display" if x265 else "mastering-display"
        parts.append(f"{key}={points}L({number(highest, 10_000)},{number(lowest, 10_000)})")
    if hdr.light is not None:
        parts.append(f"{'max-cll' if x265 else 'content-light'}={hdr.light[0]},{hdr.light[1]}")
    return {_HDR_ENCODERS[codec]: ":".join(parts)}
