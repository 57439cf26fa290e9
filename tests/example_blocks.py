"""Code blocks of the documentation, and the files that they use."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from clips import make_clip

from rcan_video.frames import ColorTags

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """``page`` as "docs/recipes.md", ``line`` of the opening fence, ``info`` behind it."""

    page: str
    line: int
    info: str
    code: str

    @property
    def first(self) -> str:
        """The first line that says something: what a block is called by."""
        return next((line.strip() for line in self.code.splitlines() if line.strip()), "")

    @property
    def language(self) -> str:
        return self.info.split(" ")[0]

    @property
    def runs(self) -> bool:
        return "no-run" not in self.info.split(" ")[1:]


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(name, text.count("\n", 0, found.start()) + 1, found["info"].strip(), found["code"])
        for found in _BLOCK.finditer(text)
    ]


def without_blocks(page: Path) -> str:
    """The text of a page between its fenced blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


# --- what lies in the folder of a block: the files that it names, of those that examples are about


def _clip(path: Path) -> None:
    """Ten frames, the last ones from a minute on: short to compute, long enough for ``--start 60``."""
    make_clip(path, size=(48, 32), pts=[0, 1, 2, 3, 312, 313, 1500, 1525, 1550, 1575], audio=1)


def _short(path: Path) -> None:
    make_clip(path, size=(48, 32), frames=4, audio=1)


def _plain(path: Path) -> None:
    make_clip(path, size=(48, 32), frames=4)


def _webm(path: Path) -> None:
    make_clip(path, size=(48, 32), frames=4, codec="libvpx-vp9", audio=1, audio_codec="libopus")


def _interlaced(path: Path) -> None:
    make_clip(path, size=(48, 32), frames=6, audio=1, options={"x264-params": "tff=1", "preset": "ultrafast"})


def _dvd(path: Path) -> None:
    make_clip(path, size=(48, 32), frames=6, codec="mpeg2video", audio=1, audio_codec="mp2", format="mpeg")


def _hdr(path: Path) -> None:
    tags = ColorTags(matrix=9, range=1, primaries=9, transfer=16)
    make_clip(path, size=(64, 64), frames=4, codec="libx265", pix_fmt="yuv420p10le", tags=tags, audio=1)


def _screen(path: Path) -> None:
    make_clip(path, size=(48, 32), frames=4, pix_fmt="yuv444p", audio=1)


def _large(path: Path) -> None:
    """What ``original.mp4`` is to ``in.mp4``: the size of its output."""
    make_clip(path, size=(96, 64), pts=[0, 1, 2, 3, 312, 313, 1500, 1525, 1550, 1575])


def _part(path: Path) -> None:
    make_clip(path, size=(96, 64), pts=[0, 25, 50, 75])


def _folder(path: Path) -> None:
    path.mkdir()
    for name in ("one.mkv", "two.mkv"):
        _short(path / name)


def _tree(path: Path) -> None:
    """A library: a folder with folders."""
    (path / "film").mkdir(parents=True)
    _short(path / "film" / "one.mkv")
    _short(path / "two.mkv")


def _pictures(path: Path) -> None:
    path.mkdir()
    for number in range(2):
        picture = np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)
        cv2.imwrite(str(path / f"p{number}.png"), cv2.resize(picture, (128, 96)))


def _photo(path: Path) -> None:
    picture = np.random.default_rng(3).integers(0, 255, (24, 32, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(picture, (64, 48)))


def _numbered(path: Path) -> None:
    path.mkdir()
    for number in (1, 2):
        _photo(path / f"{number:04d}.png")


def _web(path: Path) -> None:
    make_clip(path, size=(480, 270), frames=1)


def _list(path: Path) -> None:
    path.write_text("# the films of tonight\none.mkv\ntwo.mkv\n", encoding="utf-8")


FILES: Mapping[str, Callable[[Path], None]] = {
    "in.mp4": _clip,
    "in.mkv": _clip,
    "one.mkv": _short,
    "two.mkv": _short,
    "holiday.mp4": _plain,
    "web.mp4": _web,
    "clip.webm": _webm,
    "capture.mkv": _interlaced,
    "dvd.vob": _dvd,
    "hdr.mkv": _hdr,
    "anime.mkv": _short,
    "phone.mp4": _short,
    "screen.mp4": _screen,
    "original.mp4": _large,
    "season1": _folder,
    "library": _tree,
    "films.txt": _list,
    "photos": _pictures,
}
"""Every name that stands for something which people have. Whatever else an example names, it makes."""

MORE: Mapping[str, Mapping[str, Callable[[Path], None]]] = {
    "docs/pictures.md": {"photo.jpg": _photo, "in": _numbered, "out": Path.mkdir},
    "docs/compare.md": {"out.mp4": _large, "part.mp4": _part},
}
"""What is there on these pages, too."""


LISTED: Mapping[str, tuple[str, ...]] = {"films.txt": ("one.mkv", "two.mkv")}
"""What a list names."""


def furnish(block: Block, folder: Path, pool: Path) -> None:
    """Put what ``block`` names into ``folder``; each is made once, in ``pool``."""
    own = MORE.get(block.page, {})
    named = [name for name in {**FILES, **own} if re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w-])", block.code)]
    listed = {entry for name in named for entry in LISTED.get(name, ())}
    for name in {*named, *listed}:
        kept = pool / (block.page.replace("/", "_") if name in own else "") / name
        if not kept.exists():
            kept.parent.mkdir(exist_ok=True)
            (own.get(name) or FILES[name])(kept)
        if kept.is_dir():
            shutil.copytree(kept, folder / name)
        else:
            shutil.copy(kept, folder / name)
