"""Names, part files, pipes and the check of what was written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from clips import make_clip

from rcan_video import Options, upscale
from rcan_video.errors import InputError, OutputError, PipeClosed
from rcan_video.media.files import PartFile, check_output, open_input, open_output, output_errors, reason
from rcan_video.media.pipes import PipeReader, PipeWriter

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


# -- the output's name ----------------------------------------------------------------------------------------------


def test_an_output_in_its_place_is_welcome(tmp_path: Path) -> None:
    check_output(str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4"), overwrite=False)
    check_output("-", "-", overwrite=False)
    check_output("in.mp4", "-", overwrite=False)


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        check_output("in.mp4", str(tmp_path), overwrite=True)
    assert str(caught.value) == f"{tmp_path} is a directory: name a file in it"


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    target = tmp_path / "none" / "out.mp4"
    with pytest.raises(OutputError) as caught:
        check_output("in.mp4", str(target), overwrite=False)
    assert str(caught.value) == f"{target} cannot be written: the folder {target.parent} does not exist"


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
def test_a_folder_that_does_not_permit_it(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputError, match=rf"cannot be written: the folder {folder} does not permit it$"):
        check_output("in.mp4", str(folder / "out.mp4"), overwrite=False)


def test_a_folder_that_does_not_permit_it_as_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError, match=rf"cannot be written: the folder {tmp_path} does not permit it$"):
        check_output("in.mp4", str(tmp_path / "out.mp4"), overwrite=False)


def test_an_existing_output_needs_a_word(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_text("precious")
    with pytest.raises(OutputError) as caught:
        check_output("in.mp4", str(target), overwrite=False)
    assert str(caught.value) == f"{target} exists already: name another output or pass --overwrite"
    check_output("in.mp4", str(target), overwrite=True)
    check_output("-", str(target), overwrite=True)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("link", ["same", "symbolic", "hard", "dotted"])
def test_the_input_is_never_the_output(tmp_path: Path, overwrite: bool, link: str) -> None:
    source = tmp_path / "in.mp4"
    source.write_text("precious")
    target = tmp_path / "out.mp4"
    if link == "symbolic":
        target.symlink_to(source)
    elif link == "hard":
        target.hardlink_to(source)
    else:
        target = source if link == "same" else tmp_path / "." / "in.mp4"
    with pytest.raises(OutputError) as caught:
        check_output(str(source), str(target), overwrite=overwrite)
    assert str(caught.value) == f"{target} is the input itself: name another output"


# -- the part file --------------------------------------------------------------------------------------------------


def test_a_part_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.tar.mp4"
    target.write_text("old")
    with PartFile(str(target), overwrite=True) as part:
        assert part.path.parent == tmp_path
        assert part.path.name.startswith(".")
        assert part.path.suffix == ".mp4"
        part.path.write_text("new")
        assert target.read_text() == "old"
        part.commit()
        assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_part_file_does_not_replace_what_has_appeared_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with PartFile(str(target), overwrite=False) as part:
        part.path.write_text("new")
        target.write_text("somebody else's")
        with pytest.raises(OutputError, match=r"out\.mp4 cannot be written: a file of that name has appeared"):
            part.commit()
    assert target.read_text() == "somebody else's"
    assert list(tmp_path.iterdir()) == [target]


def test_a_part_file_vanishes_without_commit(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), PartFile(str(target), overwrite=True) as part:
        part.path.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == [target]
    assert target.read_text() == "old"


def test_a_link_planted_under_the_name_of_a_part_file_is_not_followed(tmp_path: Path) -> None:
    """The name can be guessed, and the folder may be one that everybody writes into."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    part = PartFile(str(tmp_path / "out.mp4"), overwrite=True)
    part.path.symlink_to(precious)
    with part:
        part.path.write_text("new")
        part.commit()
    assert precious.read_text() == "precious"
    assert not (tmp_path / "out.mp4").is_symlink()
    assert (tmp_path / "out.mp4").stat().st_mode == precious.stat().st_mode


def test_what_a_killed_process_has_left_is_swept(tmp_path: Path) -> None:
    """A day later, and only what is named as the output's own part files are."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    dead, alive = process.pid, os.getpid()
    names = {
        f".out.{dead}-0.part.mp4": False,
        f".out.{dead}-1.part.mp4": False,
        f".out.{alive}-99.part.mp4": True,
        f".out.{dead}-0.part.mkv": True,
        f".other.{dead}-0.part.mp4": True,
        "out.mp4": True,
    }
    for name in names:
        (tmp_path / name).write_bytes(b"bytes")
        os.utime(tmp_path / name, (0, 0))
    fresh = tmp_path / f".out.{dead}-2.part.mp4"
    fresh.write_bytes(b"bytes")
    with PartFile(str(tmp_path / "out.mp4"), overwrite=True) as part:
        part.sweep()
        assert part.path.exists()
    assert {file.name for file in tmp_path.iterdir()} == {n for n, stays in names.items() if stays} | {fresh.name}


def test_a_job_sweeps(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", size=(48, 32), frames=3)
    left = tmp_path / ".out.4194305-0.part.mp4"  # above what Linux gives
    left.write_bytes(b"bytes")
    os.utime(left, (0, 0))
    upscale(Options(str(clip), str(tmp_path / "out.mp4")))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.mkv", "out.mp4"]


def test_a_part_file_that_was_never_begun(tmp_path: Path) -> None:
    with PartFile(str(tmp_path / "out.mp4"), overwrite=True):
        pass
    assert list(tmp_path.iterdir()) == []


def test_commit_into_a_folder_that_has_gone(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with PartFile(str(folder / "out.mp4"), overwrite=True) as part:
        part.path.unlink()
        folder.rmdir()
        with pytest.raises(
            OutputError, match=r"out\.mp4 cannot be written: its folder or the unfinished file in it is gone$"
        ):
            part.commit()


# -- sentences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputError, "x cannot be written: the disk is full"),
        (OSError(errno.EIO, "Input/output error"), OutputError, "x cannot be written: Input/output error"),
        (ValueError("no such thing."), OutputError, "x cannot be written: no such thing"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), PipeClosed, "the reader of x has closed it"),
    ],
)
def test_output_errors(error: Exception, kind: type[OutputError], sentence: str) -> None:
    with pytest.raises(OutputError) as caught, output_errors("x"):
        raise error
    assert caught.type is kind
    assert str(caught.value) == sentence
    assert caught.value.__cause__ is error


def test_bugs_are_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError), output_errors("x"):
        raise ZeroDivisionError


def test_reason_has_always_a_word() -> None:
    assert reason(RuntimeError()) == "RuntimeError"
    assert reason(OSError(errno.EIO, "Input/output error", "file")) == "Input/output error"


@pytest.mark.skipif(ROOT, reason="root may read everything")
def test_an_input_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    path.write_text("secret")
    path.chmod(0)
    with pytest.raises(InputError, match=r"in\.mp4 cannot be opened: permission is denied$"):
        open_input(str(path))


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_a_standard_stream_that_is_closed(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, stream, None)
    if stream == "stdin":
        with pytest.raises(InputError, match="standard input is closed"):
            open_input("-")
    else:
        with pytest.raises(OutputError, match="standard output is closed"):
            open_output(None, format="nut", options={}, stop=threading.Event())


# -- pipes ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


def close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def test_reading_to_the_end(pipe: tuple[int, int]) -> None:
    read, write = pipe
    reader = PipeReader(read, threading.Event())
    os.write(write, b"abcdef")
    assert (reader.read(4), reader.read(4)) == (b"abcd", b"ef")
    close(write)
    assert reader.read(4) == b""
    close(read)


def test_stop_ends_a_read_that_waits(pipe: tuple[int, int]) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.15, stop.set)
    timer.start()
    begun = time.monotonic()
    assert PipeReader(pipe[0], stop).read(10) == b""
    assert 0.1 < time.monotonic() - begun < 2
    timer.join()
    close(*pipe)


def test_after_stop_nothing_is_read(pipe: tuple[int, int]) -> None:
    stop = threading.Event()
    stop.set()
    os.write(pipe[1], b"late")
    assert PipeReader(pipe[0], stop).read(10) == b""
    close(*pipe)


def test_more_than_a_pipe_holds_is_written_whole(pipe: tuple[int, int]) -> None:
    read, write = pipe
    data = os.urandom(1 << 20)
    found = bytearray()

    def drain() -> None:
        while chunk := os.read(read, 10_000):
            found.extend(chunk)

    thread = threading.Thread(target=drain)
    thread.start()
    assert PipeWriter(write, threading.Event()).write(data) == len(data)
    close(write)
    thread.join()
    close(read)
    assert found == data


def test_writing_to_a_reader_that_has_gone(pipe: tuple[int, int]) -> None:
    close(pipe[0])
    with pytest.raises(BrokenPipeError):
        PipeWriter(pipe[1], threading.Event()).write(b"hello")
    close(pipe[1])


def test_stop_ends_a_write_that_waits(pipe: tuple[int, int]) -> None:
    stop = threading.Event()
    timer = threading.Timer(0.15, stop.set)
    timer.start()
    begun = time.monotonic()
    assert PipeWriter(pipe[1], stop).write(bytes(1 << 20)) == 1 << 20
    assert 0.1 < time.monotonic() - begun < 2
    timer.join()
    close(*pipe)


def test_an_address_is_no_file() -> None:
    with pytest.raises(InputError, match=r"cannot be opened: only local files are; pipe it in, curl -L"):
        open_input("https://example.com/video.mp4")
