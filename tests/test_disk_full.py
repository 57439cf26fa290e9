"""A disk that becomes full: one sentence, no output, and once there is room again nothing is computed twice."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rcan_video.errors import OutputError
from rcan_video.job import upscale
from rcan_video.options import DeviceOptions, EncodeOptions, Options
from rcan_video.segments import job as segments_job
from tests.clips import make_clip, read_video

FRAMES, LENGTH = 40, 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={4 << 20}", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("this system does not let root mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize(
    ("share", "kept"),
    [(0.02, 0), (0.6, None), (1.6, FRAMES)],
    ids=["in the first segment", "in a later one", "at the join"],
)
def test_a_disk_that_becomes_full(
    monkeypatch: pytest.MonkeyPatch, disk: Path, tmp_path: Path, share: float, kept: int | None
) -> None:
    monkeypatch.setattr(segments_job, "choose_length", lambda *_: LENGTH)
    clip = make_clip(tmp_path / "in.mp4", frames=FRAMES)

    def job(target: Path) -> Options:
        encode = EncodeOptions(codec="libx264", preset="ultrafast", options={"threads": "1"})
        return Options(str(clip), str(target), device=DeviceOptions("cpu", batch=1, threads=1), encode=encode)

    upscale(job(tmp_path / "whole.mp4"))
    size = (tmp_path / "whole.mp4").stat().st_size
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free - int(share * size)))
    with pytest.raises(OutputError, match=r"the disk is full|and its disk has .* MB left"):
        upscale(job(disk / "out.mp4"))
    assert not (disk / "out.mp4").exists()
    ballast.unlink()
    report = upscale(job(disk / "out.mp4"))
    assert report.kept % LENGTH == 0
    assert report.kept == kept if kept is not None else 0 < report.kept < FRAMES
    found, wanted = read_video(disk / "out.mp4"), read_video(tmp_path / "whole.mp4")
    assert [time for time, _ in found] == [time for time, _ in wanted]
    for (_, one), (_, other) in zip(found, wanted, strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert [path.name for path in disk.iterdir()] == ["out.mp4"]
