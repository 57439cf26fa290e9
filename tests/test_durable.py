"""Files that outlive a crash: what is durable when."""

import os
import stat
from pathlib import Path

import pytest

from rcan_video import durable


def test_a_file_is_durable_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, path = tmp_path / "a.part", tmp_path / "a"
    path.write_text("old")
    part.write_text("new")
    synced = []

    def fsync(handle: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    durable.replace(part, path)
    assert synced == [(False, "old"), (True, "new")]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_made_durable_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, path = tmp_path / "a.part", tmp_path / "a"
    path.write_text("old")
    part.write_text("new")

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        durable.replace(part, path)
    assert path.read_text() == "old"
