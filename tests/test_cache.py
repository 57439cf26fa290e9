"""The user's cache folder: whole files or none, never an error, and a bound on all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rcan_video import cache

unix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
posix = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG is for other systems")


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def base() -> Path:
    found = cache.folder()
    assert found is not None
    return found / "computed"


KEYS = {name: cache.key_of(name) for name in "abcde"}
A = KEYS["a"]


def test_what_is_stored_is_loaded() -> None:
    assert cache.load(A) is None
    cache.store(A, b"one")
    cache.store(KEYS["b"], b"")
    cache.store(A, b"two")
    assert (cache.load(A), cache.load(KEYS["b"])) == (b"two", b"")
    assert sorted(p.name for p in base().iterdir()) == sorted([A, KEYS["b"]]), "nothing in part"


@pytest.mark.parametrize("keep", [0, 10, 30, 51, 54])
def test_a_file_that_was_cut_off_is_not_there(keep: int) -> None:
    cache.store(A, b"payload")
    path = base() / A
    whole = path.read_bytes()
    assert keep < len(whole)
    path.write_bytes(whole[:keep])
    assert cache.load(A) is None


def test_every_byte_counts() -> None:
    cache.store(A, b"payload")
    path = base() / A
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache.load(A) is None, place


@unix
def test_nobody_else_may_look_or_write() -> None:
    old = os.umask(0)
    try:
        cache.store(A, b"payload")
    finally:
        os.umask(old)
    assert base().stat().st_mode & 0o777 == 0o700
    assert (base() / A).stat().st_mode & 0o777 == 0o600


@unix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_may_write_to_is_not_used(mode: int) -> None:
    """What lies there could be anybody's, and would be run."""
    cache.store(A, b"payload")
    base().chmod(mode)
    assert cache.load(A) is None
    cache.store(KEYS["b"], b"payload")
    assert [p.name for p in base().iterdir()] == [A]
    base().chmod(0o755)
    assert cache.load(A) == b"payload"


@unix
def test_a_folder_of_another_user_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.store(A, b"payload")
    monkeypatch.setattr(os, "geteuid", lambda: base().stat().st_uid + 1)
    assert cache.load(A) is None
    cache.store(KEYS["b"], b"payload")
    assert [p.name for p in base().iterdir()] == [A]


@unix
def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Where it leads, files would be removed to make room."""
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    base().parent.mkdir(parents=True)
    base().symlink_to(tmp_path / "elsewhere")
    cache.store(A, b"payload")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_processes_that_write_at_once() -> None:
    """Each key holds what one of them wrote, whole, at any moment; no part is left behind."""
    code = """if True:
        import sys
        from rcan_video import cache
        for n in range(150):
            key = cache.key_of(n % 3)
            cache.store(key, sys.argv[1].encode() * 5000)
            found = cache.load(key)
            assert found is not None and len(found) == 5000 and len(set(found)) == 1, found
    """
    started = [subprocess.Popen([sys.executable, "-c", code, letter]) for letter in "xyz"]
    assert [process.wait(timeout=120) for process in started] == [0, 0, 0]
    assert len(list(base().iterdir())) == 3


@posix
@pytest.mark.parametrize("value", ["", "relative/path"])
def test_without_a_usable_setting_it_is_in_the_home(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert base() == tmp_path / "home/.cache/rcan-video/computed"


def test_nobody_is_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(Path, "home", lost)
    assert cache.folder() is None
    cache.store(A, b"payload")
    assert cache.load(A) is None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    cache.store(A, b"payload")
    assert cache.load(A) is None


def test_what_was_used_longest_ago_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate("dcba"):
        cache.store(KEYS[name], bytes(100))
        os.utime(base() / KEYS[name], (age, age))
    assert cache.load(KEYS["d"]) is not None  # and is the newest now
    monkeypatch.setattr(cache, "LIMIT_BYTES", 500)  # three of them, headers included
    cache.store(KEYS["e"], bytes(100))
    assert sorted(p.name for p in base().iterdir()) == sorted(KEYS[name] for name in "ade")


def test_keys_tell_their_parts_apart() -> None:
    keys = [cache.key_of(*parts) for parts in (("a", 1), ("a", "1"), ("a1",), ("a", 1, None), ())]
    assert len(set(keys)) == len(keys)
    assert cache.key_of("a", 1) == cache.key_of("a", 1)
