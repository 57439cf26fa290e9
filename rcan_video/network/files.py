"""Checkpoint files as bytes: looked at before they are read, and without torch."""

from __future__ import annotations

from pathlib import Path

from rcan_video.errors import WeightsError

ZIP_MAGIC = b"PK\x03\x04"
# torch.save before 1.6 begins with the pickle of its magic number: pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2).
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_SNIFF = 16
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format itself


def read_bytes(path: str | Path) -> bytes:
    """The file's content, after a look at its first bytes: a video given by mistake is not read into memory.

    Raises WeightsError where it cannot be read or is no checkpoint.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise WeightsError(f"{path}: is a directory; give a checkpoint file")
        if path.exists() and not path.is_file():
            raise WeightsError(f"{path}: is no regular file; give a checkpoint file")
        with path.open("rb") as file:
            start = file.read(_SNIFF)
            if not start:
                raise WeightsError(f"{path}: is empty")
            if not (is_safetensors(start) or start.startswith((ZIP_MAGIC, _LEGACY_MAGIC))):
                raise WeightsError(
                    f"{path}: is no checkpoint, neither safetensors nor what torch.save writes; "
                    "give a .safetensors, .pt or .pth file of an RCAN"
                )
            return start + file.read()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WeightsError(f"{path}: cannot be read: {reason}") from error


def is_safetensors(content: bytes) -> bool:
    """Eight bytes of header length, then JSON. The length bound tells it from text that has a brace in ninth place."""
    return content[8:9] == b"{" and 2 <= int.from_bytes(content[:8], "little") <= _MAX_HEADER
