"""Every file of the shared corpus through the command, and what came out: the table of docs/fidelity.md.

    python benchmarks/fidelity.py ../shared/data/clips ../shared/data/odd > table.md

Each file is cut to ``--seconds`` and goes into a container of its own kind, or Matroska where that is no output.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from rcan_video.errors import RcanVideoError
from rcan_video.media.decode import Source

OWN_KIND = frozenset({".mp4", ".mov", ".mkv", ".webm", ".ts"})
LIMIT_SECONDS = 300


@dataclass(frozen=True)
class Seen:
    """What a reader sees: times from the first frame on in seconds, size, tags, rotation, and the other streams."""

    times: list[Fraction]
    size: tuple[int, int]
    tags: object
    matrix: tuple[int, ...] | None
    others: list[str]


def see(path: Path, seconds: Fraction | None) -> Seen:
    with Source(str(path), duration=seconds) as source:
        info = source.info
        times = [(f.pts - info.start) * info.time_base for f in source.frames()]
    others = [f"{s.kind} {s.codec}" for s in info.others]
    return Seen(times, (info.width, info.height), info.color.tags, info.display_matrix, others)


def brief(text: str) -> str:
    """A row's remarks in fewer words."""
    text = re.sub(r"ColorTags\(matrix=(\d+), primaries=(\d+), transfer=(\d+), range=(\d), siting='?(\w+)'?\)",
                  r"\1/\2/\3 range \4 siting \5", text)  # fmt: skip
    return re.sub(
        r"does not say which colour matrix it uses: it is read as BT.601, as its size suggests, and stays untagged, "
        r"but at (\S+) players may take it for BT.709",
        r"is untagged and read as BT.601; at \1 players may take it for BT.709",
        text,
    )


def row(path: Path, seconds: Fraction, folder: Path) -> str:
    suffix = path.suffix if path.suffix in OWN_KIND else ".mkv"
    target = folder / f"out{suffix}"
    target.unlink(missing_ok=True)
    line = [sys.executable, "-m", "rcan_video", str(path), str(target), "--duration", str(float(seconds))]
    # What is chosen for WebM and for the transparency of GIF has no presets.
    line += [] if suffix == ".webm" or path.suffix == ".gif" else ["--preset", "ultrafast"]
    try:
        done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"| {path.name} | | **hangs** | | |"
    said = [text.removeprefix("rcan-video: ") for text in done.stderr.splitlines()]
    if done.returncode and not target.exists():
        flaw = "**traceback** " if "Traceback" in done.stderr else ""
        sentence = said[-1].replace(f"{path.parent}/", "")
        return f"| {path.name} | {suffix} | exit {done.returncode} | | {flaw}{sentence} |"
    before, after = see(path, seconds), see(target, None)
    faults = []
    if len(before.times) != len(after.times):
        faults.append(f"**{len(after.times)} frames of {len(before.times)}**")
    elif any(abs(a - b) > Fraction(1, 1000) for a, b in zip(before.times, after.times, strict=True)):
        faults.append("**times differ**")
    if after.size != (2 * before.size[0], 2 * before.size[1]):
        faults.append(f"size {after.size[0]}x{after.size[1]}")
    if before.tags != after.tags:
        faults.append(f"tags {before.tags} to {after.tags}")
    if (before.matrix or ())[:6] != (after.matrix or ())[:6]:
        faults.append("**rotation lost**")
    # Of the table of streams, which is indented, what is copied is in the column before.
    fates = [" ".join(text.split()) for text in said if text.startswith("  ")][1:]
    told = [text for text in said if not re.search(r"^  | to \d+x\d+, |: \d+ frames, |^frame \d+", text)]
    notices = [text for text in fates if not text.endswith("-> copied")] + told
    notes = brief("; ".join([*faults, *notices])).replace(f"{path.parent}/", "").replace(f"{folder}/", "")
    carried = ", ".join(after.others) or "-"
    ended = f", exit {done.returncode}" if done.returncode else ""
    return f"| {path.name} | {suffix} | {len(after.times)} frames{ended} | {carried} | {notes} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--seconds", type=Fraction, default=Fraction(1, 5))
    chosen = parser.parse_args()
    print("| file | into | outcome | carried beside the video | differs, was said |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(p for f in chosen.folders for p in f.iterdir()):
            try:
                print(row(path, chosen.seconds, Path(folder)), flush=True)
            except (RcanVideoError, av.FFmpegError) as error:
                print(f"| {path.name} | | **cannot be read back** | | {error} |", flush=True)


if __name__ == "__main__":
    main()
