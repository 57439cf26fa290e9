"""Checkpoint files: looked at before they are read, and then read without running what a pickle may ask for.

The bytes alone need no torch, and nothing here loads it before somebody asks for what they hold.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rcan_video.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

_ZIP_MAGIC = b"PK\x03\x04"
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
            if not (_is_safetensors(start) or start.startswith((_ZIP_MAGIC, _LEGACY_MAGIC))):
                raise WeightsError(
                    f"{path}: is no checkpoint, neither safetensors nor what torch.save writes; "
                    "give a .safetensors, .pt or .pth file of an RCAN"
                )
            return start + file.read()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WeightsError(f"{path}: cannot be read: {reason}") from error


def read_content(content: bytes) -> tuple[object, Mapping[str, str]]:
    """The unpickled object or the tensors of a safetensors file, and the latter's metadata.

    Raises WeightsError, without the file's name.
    """
    if _is_safetensors(content):
        return _read_safetensors(content)
    return _read_pickle(content), {}


def _read_safetensors(content: bytes) -> tuple[Mapping[str, Tensor], Mapping[str, str]]:
    import safetensors.torch
    from safetensors import SafetensorError

    header = int.from_bytes(content[:8], "little")
    if header > len(content) - 8:
        raise WeightsError("is a cut-off or damaged safetensors file: its header is longer than the file")
    try:
        tensors = safetensors.torch.load(content)
        metadata = json.loads(content[8 : 8 + header]).get("__metadata__", {})
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a dtype that torch has not
        raise WeightsError(f"is a damaged safetensors file ({_first_line(error)})") from error
    return tensors, metadata


def _read_pickle(content: bytes) -> object:
    import torch

    _check_unpacked_size(content)
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"GLOBAL ([\w.]+)", str(error))
        if unsafe is None:
            raise WeightsError(f"is a damaged or foreign pickle ({_first_line(error)})") from error
        raise WeightsError(
            f"asks for {unsafe[1]} when loaded, and so could run code, which is never allowed; "
            "keep its state dict alone, or convert it to safetensors where you trust it"
        ) from error
    except Exception as error:
        # Broad on purpose: bytes that are damaged drive the unpickler into errors of any class.
        raise WeightsError(
            f"cannot be read as a PyTorch checkpoint, it may be cut off or damaged ({_first_line(error)})"
        ) from error


def _check_unpacked_size(content: bytes) -> None:
    """An archive that unpacks to more than it is could fill the memory. torch.save compresses nothing."""
    if not content.startswith(_ZIP_MAGIC):
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception as error:  # as above
        raise WeightsError(
            f"cannot be read as a PyTorch checkpoint, it may be cut off or damaged ({_first_line(error)})"
        ) from error
    if unpacked > len(content):
        raise WeightsError(f"is a compressed archive that unpacks to {unpacked} bytes, which torch.save does not write")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no details'}"


def _is_safetensors(content: bytes) -> bool:
    """Eight bytes of header length, then JSON. The length bound tells it from text that has a brace in ninth place."""
    return content[8:9] == b"{" and 2 <= int.from_bytes(content[:8], "little") <= _MAX_HEADER
