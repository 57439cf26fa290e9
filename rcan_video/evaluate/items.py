"""Which files belong together: an original, its small form and its enlargements, by their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
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
    return {name: _partner(name, originals, there, place, scale) for name in originals}


def _partner(name: str, originals: Collection[str], there: Mapping[str, Path], place: str, scale: int) -> Path:
    if name in there:
        return there[name]
    # img_2x2 may belong to img_2, and to img only where there is no such original.
    longer = [other for other in originals if len(other) > len(name)]
    found = [
        path
        for file, path in there.items()
        if _belongs(file, name, scale) and not any(_belongs(file, other, scale) for other in longer)
    ]
    if not found:
        raise InputError(f"{place}: holds nothing for {name}; name it {name}, or {name}x{scale}, with any suffix")
    if len(found) > 1:
        raise InputError(f"{place}: holds {len(found)} files for {name}, {found[0]} and {found[1]}; keep one of them")
    return found[0]


def _belongs(file: str, name: str, scale: int) -> bool:
    return file == name or re.fullmatch(rf"{re.escape(name)}(_[^/]*)?x{scale}", file) is not None
