"""The video encoders that this program knows and this FFmpeg has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.codec.codec import UnknownCodecError

from rcan_video.media.alpha import keeps_alpha
from rcan_video.media.encoder_options import KNOBS, Knobs

_MAKERS = {"nvenc": "NVIDIA", "qsv": "Intel", "amf": "AMD"}
_WITHOUT_KNOBS = ("ffv1", "prores_ks", "rawvideo")


@dataclass(frozen=True, slots=True)
class Encoder:
    """``what`` it writes; ``crf`` is the default of ``--crf``, None where it has no constant quality; ``alpha``: keeps
    it in some container."""

    name: str
    what: str
    crf: float | None
    presets: bool
    alpha: bool


def encoders() -> Iterator[Encoder]:
    """In the order of our table. Hardware encoders are those that FFmpeg was built with, whether the hardware is there
    or not."""
    for name in (*KNOBS, *_WITHOUT_KNOBS):
        try:
            codec = av.Codec(name, "w")
        except UnknownCodecError:
            continue
        knobs = KNOBS.get(name, Knobs())
        alpha = any(keeps_alpha(name, container) for container in ("matroska", "mov", "webm", "nut"))
        maker = _MAKERS.get(name.rpartition("_")[2])
        what = codec.canonical_name + (f" in hardware of {maker}'s" if maker else "")
        yield Encoder(name, what, knobs.default_quality, knobs.preset is not None, alpha)
