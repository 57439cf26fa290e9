"""Names of numbered files: frames/%05d.png."""

from __future__ import annotations

import re
from pathlib import Path

_NUMBER = re.compile(r"%0?(\d{0,2})d")


def is_numbered(path: str) -> bool:
    """Whether a name stands for numbered files, as ``frames/%05d.png`` does."""
    return len(_NUMBER.findall(path)) == 1 and not Path(path).exists()


def numbered(path: str, number: int) -> str:
    """The file of that number."""
    return _NUMBER.sub(lambda found: f"{number:0{found[1] or 1}d}", path)


def numbers(path: str) -> list[int]:
    """The numbers of the files that are there, ascending."""
    before, _, after = _NUMBER.split(path)
    folder = Path(before + "x").parent
    start = Path(before + "x").name[:-1]
    name = re.compile(rf"{re.escape(start)}(\d+){re.escape(after)}")
    files = list(folder.iterdir()) if folder.is_dir() else []
    found = [int(match[1]) for file in files if (match := name.fullmatch(file.name))]
    return sorted(number for number in found if Path(numbered(path, number)).is_file())
