"""Damaged media files and checkpoints through ``rcan-video``, and what it makes of them.

    python -m benchmarks.fuzz --media 1000 --checkpoints 300 --corpus ../shared/data/odd --minutes 20 --keep faults

Each file is a good one with bits flipped, its end cut off, lengths overwritten, or pieces of another (boxes of MP4
among them) put in; the same number and seed give the same file, but for the addresses that torch's legacy format holds.
Each goes through a process of its own. A fault is: a traceback or exit code 1, a signal, 20 s without a frame, more
than 2 GB, an exit code that is not in ``rcan_video.errors``, an error without a sentence, an output or an unfinished
file left by a run that failed, an output that does not open.
Exit code 0: there was none.
"""

from __future__ import annotations

import argparse
import random
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import av
import safetensors.torch
import torch

from benchmarks.forked import Command, Ended
from rcan_video.errors import InputError
from rcan_video.media.decode import probe
from rcan_video.network import checkpoint
from rcan_video.network.rcan import RCAN, RCANConfig
from tests.clips import make_clip

MOST_SECONDS = 20
MOST_BYTES = 2 << 30
CODES = frozenset({0, 2, 3, 4, 5, 6, 7})
LARGEST, MOST_PIXELS = 600_000, 320 * 240  # bytes of a file of the corpus, and its size: larger ones take too long
_CUT = ("--duration", "0.2", "--preset", "ultrafast", "--codec", "libx264", "--encoder-opt", "threads=1")
_DEVICE = ("--device", "cpu", "--batch", "1", "--threads", "1")


# --- what is mutated ---


def clips(folder: Path) -> list[Path]:
    """Small clips of the usual codecs and containers, made here."""
    size, frames = (64, 48), 8  # x265 wants 64 pixels at least
    vpx = {"cpu-used": "8", "g": "4"}
    return [
        make_clip(folder / "h264.mp4", size=size, frames=frames, audio=1, options={"g": "4", "bf": "2"}),
        make_clip(folder / "h264.mkv", size=size, frames=frames, audio=1, options={"g": "4"}),
        make_clip(folder / "h264.ts", size=size, frames=frames, audio=1, options={"g": "4"}),
        make_clip(folder / "h264.h264", size=size, frames=frames, options={"g": "4"}),
        make_clip(folder / "hevc.mov", codec="libx265", size=size, frames=frames, options={"g": "4"}),
        make_clip(folder / "vp9.webm", codec="libvpx-vp9", size=size, frames=frames, options=vpx),
        make_clip(folder / "mpeg4.avi", codec="mpeg4", size=size, frames=frames, audio=1, audio_codec="mp2"),
        make_clip(folder / "mpeg2.mpg", codec="mpeg2video", size=size, frames=frames),
        make_clip(folder / "ffv1.nut", codec="ffv1", size=size, frames=frames),
        make_clip(folder / "flv1.flv", codec="flv1", size=size, frames=frames),
    ]


def small(path: Path) -> bool:
    """Whether a file of the corpus is quick to do."""
    try:
        info = probe(str(path))
    except InputError:
        return path.stat().st_size <= LARGEST
    return path.stat().st_size <= LARGEST and info.width * info.height <= MOST_PIXELS


def tiny_network() -> RCAN:
    torch.manual_seed(0)
    return RCAN(RCANConfig(groups=1, blocks=1, features=4, reduction=4)).eval().requires_grad_(False)


def checkpoints(folder: Path) -> list[Path]:
    """The network in every kind of file that is read."""
    net = tiny_network()
    checkpoint.save(net, folder / "own.safetensors")
    (folder / "plain.safetensors").write_bytes(safetensors.torch.save(net.state_dict()))
    torch.save(net.state_dict(), folder / "zip.pth")
    torch.save({"params": net.state_dict(), "epoch": 3}, folder / "wrapped.pt")
    torch.save(net.state_dict(), folder / "legacy.pth", _use_new_zipfile_serialization=False)
    return sorted(folder.glob("*.*"))


# --- mutations ---


def mutate(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """``content`` with one to three mutations."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice((flip, flip, flip_in_header, cut, zero, overwrite_length, splice, move_box))(data, others, rng)
    return bytes(data)


def flip(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    for _ in range(rng.choice((1, 4, 30)) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_in_header(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    for _ in range(rng.choice((1, 3, 10)) if data else 0):
        data[rng.randrange(min(len(data), 700))] = rng.randrange(256)


def cut(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def zero(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 16, 300, 5000))
    data[at : at + size] = bytes(len(data[at : at + size]))


def overwrite_length(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    """Four or eight bytes become a number that breaks sums: in either order of bytes."""
    number = rng.choice((0, 1, 0x7F, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1))
    at = rng.randrange(len(data) + 1)
    form = rng.choice("<>") + ("Q" if number > 0xFFFFFFFF else rng.choice("IQ"))
    data[at : at + struct.calcsize(form)] = struct.pack(form, number)


def splice(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    """A piece of another file in place of, or before, one here."""
    other = rng.choice(others)
    begin = rng.randrange(len(other) + 1)
    piece = other[begin : begin + rng.choice((8, 64, 500, 8000))]
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, len(piece)))] = piece


def move_box(data: bytearray, others: list[bytes], rng: random.Random) -> None:
    """A box of MP4, here or of another file, to the place of another box; its parents' lengths stay as they were."""
    here, other = boxes(bytes(data)), rng.choice([bytes(data), *others])
    there = boxes(other)
    if not here or not there:
        return splice(data, others, rng)
    (at, size), (begin, length) = rng.choice(here), rng.choice(there)
    data[at : at + rng.choice((0, size))] = other[begin : begin + length]
    return None


_PARENTS = frozenset(
    {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"udta", b"moof", b"traf", b"dinf", b"meta"}
)


def boxes(data: bytes, begin: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """(place, size) of every box of MP4 between two places, those inside others too."""
    found = []
    end = len(data) if end is None else end
    while begin + 8 <= end:
        size, kind = int.from_bytes(data[begin : begin + 4], "big"), data[begin + 4 : begin + 8]
        if not 8 <= size <= end - begin or not kind.replace(b"\xa9", b"c").isalnum():
            break
        found.append((begin, size))
        if kind in _PARENTS:
            found += boxes(data, begin + 8, begin + size)
        begin += size
    return found


# --- judging ---


@dataclass
class Verdicts:
    title: str
    codes: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def note(self, name: str, ended: Ended, flaw: str) -> None:
        self.codes[ended.code] += 1
        self.seconds.append(ended.seconds)
        self.peak_bytes = max(self.peak_bytes, ended.peak_bytes)
        if flaw:
            self.faults.append(f"{name}: {flaw}: {ended.last_line[:300]}")
            print(f"FAULT {self.faults[-1]}", flush=True)

    def tell(self, begun: float) -> None:
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(self.codes.items()))
        print(
            f"{self.title}: {len(self.seconds)} files in {time.monotonic() - begun:.0f} s; exit codes {codes}; "
            f"longest {max(self.seconds, default=0):.1f} s, most memory {self.peak_bytes / 1e6:.0f} MB; "
            f"{len(self.faults)} faults",
            flush=True,
        )


def judge(ended: Ended, output: Path) -> str:
    """What is wrong with how a run ended, or ""."""
    if ended.cut:
        return "20 s without a word" if ended.cut == "time" else "more than 2 GB"
    if ended.peak_bytes > MOST_BYTES:
        return "more than 2 GB"
    if ended.traceback or ended.code not in CODES:
        return f"exit code {ended.code}"
    stepped_over = ended.code == 3 and "is whole but for" in ended.last_line
    if ended.code and not ended.last_line.startswith("rcan-video: "):
        return f"exit code {ended.code} without a sentence"
    left = [path for path in output.parent.iterdir() if path != output]
    if ended.code == 0 or stepped_over:
        if left:
            return f"{left[0].name} left by a run that ended well"
        return unreadable(output)
    # A failed run keeps whole segments, and says so; what failed its check has a name that says that.
    told = "are kept in" in ended.said or (ended.code == 7 and "is kept as" in ended.said)
    return "a finished-looking output" if output.exists() else f"{left[0].name} left" if left and not told else ""


def unreadable(path: Path) -> str:
    try:
        with av.open(str(path)) as file:
            return "" if next(file.decode(video=0), None) is not None else "an output without a frame"
    except (av.FFmpegError, OSError, IndexError) as error:
        return f"an output that does not open ({error})"


# --- the two rows ---


class Fuzz:
    def __init__(self, folder: Path, seed: int, keep: Path | None, until: float) -> None:
        self.folder, self.seed, self.keep, self.until = folder, seed, keep, until
        self.work = folder / "work"
        self.model = folder / "tiny.safetensors"
        checkpoint.save(tiny_network(), self.model)

    def run(self, title: str, files: list[Path], count: int, *, models: bool, clip: Path) -> Verdicts:
        verdicts, begun = Verdicts(title), time.monotonic()
        contents = [path.read_bytes() for path in files]
        for number in range(count):
            if time.monotonic() > self.until:
                break
            rng = random.Random(f"{self.seed} {title} {number}")
            picked = rng.randrange(len(files))
            mutant = self.folder / f"mutant{files[picked].suffix}"
            mutant.write_bytes(mutate(contents[picked], contents, rng))
            suffix = rng.choice((".mp4", ".mkv"))
            ended, output = self._process(clip if models else mutant, mutant if models else self.model, suffix)
            flaw = judge(ended, output)
            name = f"{number}-{files[picked].name}"
            verdicts.note(name, ended, flaw)
            if flaw and self.keep is not None:
                self.keep.mkdir(exist_ok=True)
                shutil.copy(mutant, self.keep / name)
            mutant.unlink()
        verdicts.tell(begun)
        return verdicts

    def _process(self, clip: Path, model: Path, suffix: str) -> tuple[Ended, Path]:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        output = self.work / f"out{suffix}"
        line = [clip, output, "--model", model, *_CUT, *_DEVICE]
        return Command(line, self.folder / "log").wait(MOST_SECONDS, MOST_BYTES), output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=int, default=1000)
    parser.add_argument("--checkpoints", type=int, default=300)
    parser.add_argument("--corpus", type=Path, help="a folder of more media files")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--keep", type=Path, help="a folder for the files that led to faults")
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # others would not survive a fork
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        for part in ("media", "models"):
            (folder / part).mkdir()
        media = clips(folder / "media")
        clip = make_clip(folder / "clip.mp4", size=(32, 24), frames=3)
        if chosen.corpus is not None:
            media += [path for path in sorted(chosen.corpus.iterdir()) if small(path)]
        print(f"{len(media)} media files are mutated", flush=True)
        fuzz = Fuzz(folder, chosen.seed, chosen.keep, time.monotonic() + 60 * chosen.minutes)
        rows = [
            fuzz.run("checkpoints", checkpoints(folder / "models"), chosen.checkpoints, models=True, clip=clip),
            fuzz.run("media", media, chosen.media, models=False, clip=clip),
        ]
    sys.exit(any(row.faults for row in rows))


if __name__ == "__main__":
    main()
