"""The user's cache folder: whole files or none, never an error, and a bound on all of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rcan_video import cache

posix = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG is for other systems")


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def base() -> Path:
    found = cache.folder()
    assert found is not None
    return found


def test_what_is_stored_is_loaded() -> None:
    assert cache.load("a") is None
    cache.store("a", b"one")
    cache.store("b", b"")
    cache.store("a", b"two")
    assert (cache.load("a"), cache.load("b")) == (b"two", b"")
    assert sorted(p.name for p in base().iterdir()) == ["a", "b"], "nothing in part"


@pytest.mark.parametrize("keep", [0, 10, 30, 51, 54])
def test_a_file_that_was_cut_off_is_not_there(keep: int) -> None:
    cache.store("a", b"payload")
    path = base() / "a"
    whole = path.read_bytes()
    assert keep < len(whole)
    path.write_bytes(whole[:keep])
    assert cache.load("a") is None


def test_every_byte_counts() -> None:
    cache.store("a", b"payload")
    path = base() / "a"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache.load("a") is None, place


@posix
@pytest.mark.parametrize("value", ["", "relative/path"])
def test_without_a_usable_setting_it_is_in_the_home(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert base() == tmp_path / "home/.cache/rcan-video"


def test_nobody_is_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(Path, "home", lost)
    assert cache.folder() is None
    cache.store("a", b"payload")
    assert cache.load("a") is None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    cache.store("a", b"payload")
    assert cache.load("a") is None


def test_what_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for age, key in enumerate("dcba"):
        cache.store(key, bytes(100))
        os.utime(base() / key, (age, age))
    assert cache.load("d") is not None  # and is the newest now
    monkeypatch.setattr(cache, "LIMIT_BYTES", 500)  # three of them, headers included
    cache.store("e", bytes(100))
    assert sorted(p.name for p in base().iterdir()) == ["a", "d", "e"]


def test_keys_tell_their_parts_apart() -> None:
    keys = [cache.key_of(*parts) for parts in (("a", 1), ("a", "1"), ("a1",), ("a", 1, None), ())]
    assert len(set(keys)) == len(keys)
    assert cache.key_of("a", 1) == cache.key_of("a", 1)
