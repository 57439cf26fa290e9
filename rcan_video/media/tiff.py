"""The directories of TIFF, in which EXIF data are stored as well (TIFF 6.0, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_SUBFILE = 254
_ORIENTATION, _ICC, _EXIF_IFD = 274, 34_675, 34_665
# Where the samples lie, and how many bytes of them: strips, and tiles.
_PARTS = ((273, 279), (324, 325))
# Tags of width and height, in the first directory and in that of EXIF.
_WIDTHS, _HEIGHTS = (256, 40_962), (257, 40_963)
_SHORT, _LONG, _UNDEFINED = 3, 4, 7
_MOST_PAGES = 1000  # directories may name each other in a circle


class _Entry(NamedTuple):
    """``length`` counts numbers; ``value`` is the first of them, or where its bytes lie; ``place`` is where the entry
    itself does."""

    place: int
    tag: int
    kind: int
    length: int
    value: int


def is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*")


def _order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _directories(data: bytes) -> Iterator[int]:
    """Where each directory begins, as long as there are some."""
    order = _order(data)
    try:
        (at,) = struct.unpack_from(f"{order}I", data, 4)
        for _ in range(_MOST_PAGES):
            (count,) = struct.unpack_from(f"{order}H", data, at)
            yield at
            (at,) = struct.unpack_from(f"{order}I", data, at + 2 + 12 * count)
            if not at:
                return
    except struct.error:
        return


def _entries(data: bytes, at: int) -> Iterator[_Entry]:
    """The entries of the directory at ``at``; nothing more where the data end."""
    order = _order(data)
    try:
        (count,) = struct.unpack_from(f"{order}H", data, at)
        for place in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(f"{order}HHI", data, place)
            form = "H" if kind == _SHORT and number <= 2 else "I"
            (value,) = struct.unpack_from(f"{order}{form}", data, place + 8)
            yield _Entry(place, tag, kind, number, value)
    except struct.error:
        return


def _first(data: bytes) -> Iterator[_Entry]:
    """The entries of the first directory, and then of EXIF's."""
    exif = []
    for at in _directories(data):
        for entry in _entries(data, at):
            yield entry
            if entry.tag == _EXIF_IFD:
                exif.append(entry.value)
        break
    for at in exif:
        yield from _entries(data, at)


def orientation(data: bytes) -> int:
    """1 to 8 as EXIF counts them; 1 where nothing is said."""
    for entry in _first(data):
        if entry.tag == _ORIENTATION and entry.kind == _SHORT and 1 <= entry.value <= 8:
            return entry.value
    return 1


def oriented(value: int) -> bytes:
    """EXIF data that say an orientation alone."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, _ORIENTATION, _SHORT, 1, value, 0, 0)


def profile(data: bytes) -> bytes | None:
    """The ICC profile."""
    for entry in _first(data):
        if entry.tag == _ICC and entry.length > 4:
            return data[entry.value : entry.value + entry.length] or None
    return None


def pages(data: bytes) -> int:
    """How many pictures there are, without those that are smaller copies of another."""
    counted = 0
    for at in _directories(data):
        kinds = [entry.value for entry in _entries(data, at) if entry.tag == _SUBFILE]
        counted += not (kinds and kinds[0] & 1)
    return counted


def is_whole(data: bytes) -> bool:
    """Whether the first directory is there, and all samples that it names."""
    entries = {entry.tag: entry for entry in _first(data)}
    for starts, lengths in _PARTS:
        if starts in entries and lengths in entries:
            places = zip(_values(data, entries[starts]), _values(data, entries[lengths]), strict=False)
            return all(start + length <= len(data) for start, length in places)
    return False


def _values(data: bytes, entry: _Entry) -> tuple[int, ...]:
    """All numbers of an entry; what cannot lie in the file is a place behind its end."""
    form, size = ("H", 2) if entry.kind == _SHORT else ("I", 4)
    at = entry.place + 8 if entry.length * size <= 4 else entry.value
    try:
        return struct.unpack_from(f"{_order(data)}{entry.length}{form}", data, at)
    except struct.error:
        return (len(data) + 1,)


def put(data: bytes, icc: bytes | None, orientation: int) -> bytes:
    """``data`` as FFmpeg's encoder writes them, little-endian and of one picture, with a directory anew behind all
    else that carries the profile and the orientation, too."""
    (start,) = struct.unpack_from("<I", data, 4)
    entries = {entry.tag: data[entry.place : entry.place + 12] for entry in _entries(data, start)}
    body = data + b"\0" * (len(data) % 2)
    if orientation != 1:
        entries[_ORIENTATION] = struct.pack("<HHIHH", _ORIENTATION, _SHORT, 1, orientation, 0)
    if icc is not None:
        entries[_ICC] = struct.pack("<HHII", _ICC, _UNDEFINED, len(icc), len(body))
        body += icc + b"\0" * (len(icc) % 2)
    directory = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return body[:4] + struct.pack("<I", len(body)) + body[8:] + directory


def resized(exif: bytes, size: tuple[int, int]) -> bytes:
    """EXIF data that say another size (width, height) of the picture, where they say one."""
    order, changed = _order(exif), bytearray(exif)
    for entry in _first(exif):
        pixels = size[0] if entry.tag in _WIDTHS else size[1] if entry.tag in _HEIGHTS else None
        if pixels is None or entry.kind not in (_SHORT, _LONG):
            continue
        struct.pack_into(f"{order}H", changed, entry.place + 2, _LONG)
        struct.pack_into(f"{order}I", changed, entry.place + 8, pixels)
    return bytes(changed)
