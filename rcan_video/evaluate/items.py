"""Which files belong together: an original, its small form and its enlargements, by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rcan_video.errors import InputError
from rcan_video.pictures import find


@dataclass(frozen=True, slots=True)
class Item:
    """An original; ``lr`` where the small form is given; ``results``, one for each place of enlargements."""

    name: str
    hr: Path
    lr: Path | None
    results: tuple[Path, ...]


def collect(hr: Sequence[str], lr: str | None, results: Sequence[str], scale: int) -> list[Item]:
    """The originals and what belongs to each.

    A partner has the original's name within its own folder, whatever its suffix, or that name with the scale as
    published sets have it: ``0801x2``, ``baby_LRBI_x2``, ``baby_RCAN_x2`` for ``0801`` and ``baby``. A single file
    belongs to a single original under any name.

    Raises InputError where a place is empty, a name is there twice or a partner is missing.
    """
    originals: dict[str, Path] = {}
    for place in hr:
        for name, path in _named(place).items():
            if name in originals:
                raise InputError(f"{path}: {name} is also {originals[name]}; give one of the two")
            originals[name] = path
    small = None if lr is None else _partners(originals, lr, scale)
    enlarged = [_partners(originals, place, scale) for place in results]
    return [
        Item(name, path, None if small is None else small[name], tuple(partner[name] for partner in enlarged))
        for name, path in originals.items()
    ]


def _named(place: str) -> dict[str, Path]:
    """Files by their path inside the place, without suffix."""
    folder = Path(place)
    found: dict[str, Path] = {}
    for path in find([place]):
        name = path.relative_to(folder).with_suffix("").as_posix() if folder.is_dir() else path.stem
        if name in found:
            raise InputError(f"{path}: {name} is also {found[name]}; keep one of the two")
        found[name] = path
    return found


def _partners(originals: Mapping[str, Path], place: str, scale: int) -> dict[str, Path]:
    there = _named(place)
    if Path(place).is_file() and len(originals) == 1:
        return dict(zip(originals, there.values(), strict=True))
    return {name: _partner(name, there, place, scale) for name in originals}


def _partner(name: str, there: Mapping[str, Path], place: str, scale: int) -> Path:
    if name in there:
        return there[name]
    pattern = re.compile(rf"{re.escape(name)}(_.*)?x{scale}")
    found = [path for other, path in there.items() if pattern.fullmatch(other)]
    if len(found) != 1:
        count = "nothing" if not found else f"{len(found)} files"
        raise InputError(f"{place}: holds {count} for {name}; name it {name}, or {name}x{scale}, with any suffix")
    return found[0]
