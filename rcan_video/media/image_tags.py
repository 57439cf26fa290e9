"""What a picture file carries beside its pixels and FFmpeg does not: the ICC profile and the EXIF data, which hold the
orientation. Read from PNG, JPEG, WebP and TIFF, and put into what FFmpeg has encoded.

Pixels stay as they are stored and the orientation stays a tag, as the display matrix of a video does. What is damaged
here is left out: it is no reason to refuse a picture.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from rcan_video.media import tiff

_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0"
_ICC = b"ICC_PROFILE\0"
_ICC_PART = 65_519  # bytes of a profile that one JPEG segment holds
LONGEST_JPEG_EXIF = 65_527
"""Bytes of EXIF data that the one segment of a JPEG holds."""
_LARGEST_ICC = 1 << 24


@dataclass(frozen=True, slots=True)
class Extras:
    """``icc`` is the profile, ``exif`` a TIFF structure that begins with its byte order; None where there is none."""

    icc: bytes | None = None
    exif: bytes | None = None

    @property
    def orientation(self) -> int:
        """1 to 8 as EXIF counts them: 1 is upright, from 5 on the picture is shown turned by a quarter."""
        return 1 if self.exif is None else tiff.orientation(self.exif)


def oriented(orientation: int) -> Extras:
    """An orientation alone."""
    return Extras(exif=None if orientation == 1 else tiff.oriented(orientation))


def read_extras(data: bytes) -> Extras:
    """What a picture file carries."""
    try:
        if data.startswith(_PNG):
            return _read_png(data)
        if data.startswith(b"\xff\xd8"):
            return _read_jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            found = dict(_riff(data))
            return Extras(found.get(b"ICCP"), _without_name(found.get(b"EXIF")))
        if tiff.is_tiff(data):  # all else that it carries belongs to the file
            return Extras(tiff.profile(data), oriented(tiff.orientation(data)).exif)
    except (struct.error, zlib.error, IndexError):
        pass
    return Extras()


def put_extras(data: bytes, extras: Extras, size: tuple[int, int]) -> bytes:
    """``data``, a picture as FFmpeg's encoders write them, with ``extras``; ``size`` is its (width, height)."""
    if extras == Extras():
        return data
    exif = None if extras.exif is None else tiff.resized(extras.exif, size)
    writers: Mapping[bytes, Callable[[bytes, bytes | None, bytes | None], bytes]] = {
        b"\x89PNG": _put_png,
        b"RIFF": _put_webp,
        b"II*\0": lambda data, icc, exif: tiff.put(data, icc, Extras(exif=exif).orientation),
    }
    return writers.get(data[:4], _put_jpeg)(data, extras.icc, exif)


def is_picture(data: bytes) -> bool:
    """Whether a file begins as one of the formats that are read here does, whatever its name is."""
    known = data[:2] in (b"\xff\xd8", b"BM", *(b"P%d" % n for n in range(1, 7)))
    return known or data.startswith(_PNG) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP") or tiff.is_tiff(data)


def components(data: bytes) -> int | None:
    """How many components a JPEG has (4: CMYK); None for anything else."""
    for marker, body in _segments(data) if data.startswith(b"\xff\xd8") else ():
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) > 5:
            return body[5]
    return None


def is_whole(data: bytes) -> bool:
    """False where the end of the file is missing, of which FFmpeg's decoders say nothing."""
    if data.startswith(_PNG):
        return b"IEND" in data[-64:] or any(name == b"IEND" for name, _ in _chunks(data))
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") > 0
    if data[:4] == b"RIFF":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return not tiff.is_tiff(data) or tiff.is_whole(data)


def is_several(data: bytes) -> bool:
    """Whether a TIFF holds more pages than the one that FFmpeg decodes."""
    return tiff.is_tiff(data) and tiff.pages(data) > 1


# PNG


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_PNG)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _read_png(data: bytes) -> Extras:
    icc = exif = None
    for name, body in _chunks(data):
        if name == b"iCCP":
            packed = body[body.index(b"\0") + 2 :] if b"\0" in body else b""
            icc = zlib.decompressobj().decompress(packed, _LARGEST_ICC) or None
        elif name == b"eXIf":
            exif = body
    return Extras(icc, exif)


def _put_png(data: bytes, icc: bytes | None, exif: bytes | None) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    parts = []
    for name, body in _chunks(data):
        if icc is not None and name in (b"iCCP", b"sRGB"):  # one of them is allowed
            continue
        parts.append(chunk(name, body))
        if name == b"IHDR":
            parts += [chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc))] if icc is not None else []
            parts += [chunk(b"eXIf", exif)] if exif is not None else []
    return _PNG + b"".join(parts)


# JPEG


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and bodies up to the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield marker, data[at + 4 : at + 2 + length]
        if marker == 0xDA:
            return
        at += 2 + length


def _read_jpeg(data: bytes) -> Extras:
    exif, parts = None, {}
    for marker, body in _segments(data):
        if marker == 0xE1 and body.startswith(_EXIF) and exif is None:
            exif = body[len(_EXIF) :]
        elif marker == 0xE2 and body.startswith(_ICC):
            parts[body[12]] = body[14:]
    return Extras(b"".join(parts[number] for number in sorted(parts)) or None, exif)


def _put_jpeg(data: bytes, icc: bytes | None, exif: bytes | None) -> bytes:
    def segment(marker: int, body: bytes) -> bytes:
        return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body

    parts = []
    if exif is not None:
        parts.append(segment(0xE1, _EXIF + exif))
    profile = [] if icc is None else [icc[at : at + _ICC_PART] for at in range(0, len(icc), _ICC_PART)]
    if len(profile) < 256:
        parts += [segment(0xE2, _ICC + bytes((n, len(profile))) + part) for n, part in enumerate(profile, 1)]
    after = 2
    if data[2:4] == b"\xff\xe0":  # JFIF comes first
        after += 2 + int.from_bytes(data[4:6], "big")
    return data[:after] + b"".join(parts) + data[after:]


# WebP


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _put_webp(data: bytes, icc: bytes | None, exif: bytes | None) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)

    chunks = list(_riff(data))
    name, first = chunks[0]
    if name == b"VP8X":
        head, rest = bytearray(first), chunks[1:]
    else:
        head, rest = bytearray(10), chunks
        if name == b"VP8L":
            bits = int.from_bytes(first[1:5], "little")
            width, height, alpha = bits & 0x3FFF, bits >> 14 & 0x3FFF, bits >> 28 & 1
        else:
            width, height = (int.from_bytes(first[at : at + 2], "little") & 0x3FFF for at in (6, 8))
            width, height, alpha = width - 1, height - 1, 0
        head[0] = alpha << 4
        head[4:7], head[7:10] = width.to_bytes(3, "little"), height.to_bytes(3, "little")
    head[0] |= (icc is not None) << 5 | (exif is not None) << 3
    parts = [chunk(b"VP8X", bytes(head))]
    parts += [chunk(b"ICCP", icc)] if icc is not None else []
    parts += [chunk(name, body) for name, body in rest]
    parts += [chunk(b"EXIF", exif)] if exif is not None else []
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _without_name(exif: bytes | None) -> bytes | None:
    """Some writers put the name before the data, as in JPEG."""
    return exif if exif is None else exif.removeprefix(_EXIF)
