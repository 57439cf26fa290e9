"""Whether a file is as long as it says itself: after a download or a copy that broke off it is not, and FFmpeg takes
where it ends for the end of the video."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from av.container import InputContainer

# Some writers of AVI count the eight bytes of the RIFF header twice, or a last one that pads.
_SLACK = 64
_FLV_TAGS = (8, 9, 18)  # audio, video, script data
_SEGMENT = bytes.fromhex("18538067")  # the element of Matroska that holds all others


def is_cut_off(container: InputContainer, path: str) -> bool:
    """Whether the end of the file at ``path`` is missing, by what it says: where the samples of an MP4 lie, the length
    of an AVI or a Matroska, that of each tag of an FLV. False for all other containers, which say nothing, and where
    nothing is said. ``container`` was read to its end: the fragments of an MP4 are known only then.

    Raises OSError.
    """
    kind = container.format.name.split(",")
    if "mp4" in kind:
        # An mdat may claim too much, an edit list leave packets out: each sample says where it lies.
        ends = (entry.pos + entry.size for stream in container.streams for entry in stream.index_entries)
        return max(ends, default=0) > Path(path).stat().st_size
    with Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if "avi" in kind:
            return _riff_end(file, size) > size + _SLACK
        if "matroska" in kind:
            return _segment_end(file) > size
        return "flv" in kind and _tags_end(file, size) > size


def _riff_end(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk ends: long files have several, one behind the other. An unfinished recording says 0 or
    the largest number there is, which is no word about its end."""
    end = 0
    while end < size:
        file.seek(end)
        name, length = file.read(4), int.from_bytes(file.read(4), "little")
        if name != b"RIFF" or length in (0, 0xFFFFFFFF):
            return min(end, size)
        end += 8 + length + length % 2
    return end


def _segment_end(file: BinaryIO) -> int:
    """Where the Matroska segment ends; 0 where that is left open, as in a live recording."""
    file.seek(4)  # behind the identity of the header, which FFmpeg has seen
    file.seek(_number(file) or 0, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length = _number(file)
    return 0 if length is None else file.tell() + length


def _number(file: BinaryIO) -> int | None:
    """A length as Matroska writes it: leading zero bits of the first byte say how many follow. None where all bits are
    set, which means unknown."""
    first = int.from_bytes(file.read(1), "big")
    more = 8 - first.bit_length()
    bits = 7 * (more + 1)
    value = int.from_bytes(bytes([first]) + file.read(more), "big") & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value


def _tags_end(file: BinaryIO, size: int) -> int:
    """Where the last tag of an FLV ends. What is no tag belongs to nothing: some programs pad, or put a note behind."""
    file.seek(5)
    at = int.from_bytes(file.read(4), "big") + 4
    end = at
    while at + 11 <= size:
        file.seek(at)
        head = file.read(4)
        if head[0] & 0x1F not in _FLV_TAGS:
            break
        end = at + 11 + int.from_bytes(head[1:], "big")
        at = end + 4  # behind the length of the tag, once more
    return end
