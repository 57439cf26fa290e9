"""The folder of one job: its plan, what is done of it, the segments themselves, and a lock.

    plan.json      where the video is cut, and what its frames depend on
    done.json      the segments that are whole; the only truth, replaced as a whole after each of them
    000012.mp4     the encoded frames of one segment
    lock           held while a process works here, and let go by the system when that ends, however it ends

Other files of such names are remnants, and are deleted when a job begins.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from rcan_video import durable
from rcan_video.durable import NO_FOLLOW, create, lock, sync
from rcan_video.errors import OutputError
from rcan_video.media.files import output_errors
from rcan_video.media.segment import Encoded
from rcan_video.prepare import Ending
from rcan_video.segments.plan import Plan
from rcan_video.segments.records import Done, Record, done_content, done_of, parse, plan_content, plan_of

_PLAN, _DONE, _LOCK = "plan.json", "done.json", "lock"
# What this program puts here, and therefore may delete.
_OURS = re.compile(r"(plan|done)\.json(\.part)?|\d{6,}\.(mp4|mov)(\.part)?|joined\.part(\..*)?")
_LARGEST = 64 << 20  # bytes of a JSON file that are read


class JobFolder:
    """The folder at ``path``, made where it is missing, for this process alone while the ``with`` lasts. ``suffix`` is
    that of the segments' files. ``restart``: whatever was done is not even looked at. ``look``: it is read and no more;
    nothing is made, locked or removed.

    It stays where something of the job is done, and goes where nothing is. Raises OutputError: it cannot be made,
    another process works in it, or others could have put something into it.
    """

    def __init__(self, path: Path, suffix: str = "mp4", *, restart: bool = False, look: bool = False) -> None:
        self.path = path
        self._suffix = suffix
        self._plan: Plan | None = None
        self.done = Done()
        self._lock = None if look else self._hold()
        try:
            if not restart:
                self._load()
        except BaseException:
            self._let_go()
            raise

    def __enter__(self) -> JobFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None and not self.done.records and self.done.joined is None:
            self.remove()
        self._let_go()

    @property
    def begun(self) -> bool:
        """Whether there is a plan."""
        return self._plan is not None

    @property
    def plan(self) -> Plan:
        assert self._plan is not None, "the job has not begun"
        return self._plan

    def file(self, number: int) -> Path:
        """Where segment ``number`` lies."""
        return self.path / f"{number:06}.{self._suffix}"

    def part(self, number: int) -> Path:
        """Where segment ``number`` is written."""
        return self.path / f"{number:06}.{self._suffix}.part"

    def missing(self) -> list[int]:
        """The segments that are not done."""
        return [number for number in range(len(self.plan)) if number not in self.done.records]

    def segments(self) -> list[tuple[Path, Encoded]]:
        """The files of the segments that have frames, and what they hold, in order."""
        records = sorted(self.done.records.items())
        return [(self.file(number), record.encoded) for number, record in records if record.encoded is not None]

    def begin(self, plan: Plan) -> None:
        """Keep ``plan``, and forget what was done of another: that first, or a crash in between would leave the
        segments of one job under the plan of the other."""
        self._plan = plan
        self.done = Done()
        with output_errors(str(self.path)):
            (self.path / _DONE).unlink(missing_ok=True)
            sync(self.path)
        self._save(_PLAN, plan_content(plan))
        self._save_done()

    def keep(self, number: int, record: Record) -> None:
        """Make segment ``number``, written as ``part`` where it has frames, durable, and record it."""
        if record.encoded is not None:
            part, final = self.part(number), self.file(number)
            with output_errors(str(final)):
                durable.replace(part, final)
        self.done.records[number] = record
        try:
            self._save_done()
        except BaseException:  # what is not written is not kept, and nobody is told that it is
            del self.done.records[number]
            raise

    def receive(self, number: int, content: bytes, record: Record) -> None:
        """``keep`` segment ``number``, whose file has this ``content``."""
        part = self.part(number)
        with output_errors(str(part)):
            create(part)
            part.write_bytes(content)
        self.keep(number, record)

    def drop(self, numbers: Iterable[int]) -> None:
        """Segments ``numbers`` are missing again."""
        found = [self.done.records.pop(number, None) for number in list(numbers)]
        if any(record is not None for record in found):
            self._save_done()
            self.sweep()

    def drop_unsure(self) -> None:
        """Those that were decoded apart and whose neighbour has not confirmed them are missing again; the last one,
        too, where nobody knows how the input ends."""
        records = self.done.records
        unsure = [n for n, record in records.items() if record.begin is not None and n and n - 1 not in records]
        if self.done.ending is None and len(self.plan) - 1 in records:
            unsure.append(len(self.plan) - 1)
        self.drop(unsure)

    def end(self, ending: Ending, last: int) -> None:
        """All segments are done; ``last`` is the end of the last frame, in ticks."""
        number, record = max(((n, r) for n, r in self.done.records.items() if r.encoded is not None), key=itemgetter(0))
        assert record.encoded is not None
        self.done.records[number] = replace(record, encoded=replace(record.encoded, end=last))
        self.done.ending = ending
        self._save_done()

    def forget(self) -> None:
        """Nothing is done."""
        self._plan, self.done = None, Done()

    def joined(self, size: int | None) -> None:
        """The output is whole, with ``size`` bytes, and gets its name next; None: it did not."""
        self.done.joined = size
        self._save_done()

    def sweep(self) -> None:
        """Delete what ``done.json`` does not know of this program's own, and forget segments whose file is
        not what it says."""
        kept = {_PLAN, _DONE, _LOCK}
        for number, record in list(self.done.records.items()):
            path = self.file(number)
            if record.encoded is not None and _size(path) != record.encoded.size:
                del self.done.records[number]
            else:
                kept.add(path.name)
        with output_errors(str(self.path)):
            for path in list(self.path.iterdir()):
                if path.name not in kept and _OURS.fullmatch(path.name):
                    path.unlink()

    def remove(self) -> None:
        """Delete the folder and what this program puts into it. What says that the job is done goes late: whoever is
        interrupted here can still be told so."""
        late = (_PLAN, _DONE, _LOCK)
        with contextlib.suppress(OSError):
            for path in list(self.path.iterdir()):
                if _OURS.fullmatch(path.name) and path.name not in late:
                    path.unlink()
            for name in late:
                (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()

    def _hold(self) -> int:
        """The open lock. Raises OutputError."""
        while True:
            with output_errors(str(self.path)):
                with contextlib.suppress(FileExistsError):
                    self.path.mkdir(mode=0o700)
                self._check()
                handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | NO_FOLLOW, 0o600)
            try:
                mine = lock(handle)
            except OSError as error:
                os.close(handle)
                raise OutputError(
                    f"the file system of {self.path} has no locks ({error.strerror}): name a --work-dir on another disk"
                ) from error
            if not mine:
                os.close(handle)
                raise OutputError(f"another run is at work in {self.path}: wait for it, or name another output")
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(handle), (self.path / _LOCK).stat()):
                    return handle
            os.close(handle)  # whoever held it has removed the folder meanwhile

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)

    def _check(self) -> None:
        """Nobody else may write here: what lies in the folder is believed."""
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise OutputError(f"{self.path} is no folder, where the job would keep its segments: remove it")
        if hasattr(os, "geteuid") and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
            raise OutputError(
                f"others may write into {self.path}, where the job would keep its segments: remove it, or choose "
                "another --work-dir"
            )

    def _load(self) -> None:
        plan, done = self._read(_PLAN), self._read(_DONE)
        if plan is None or done is None:
            return
        try:
            self._plan = plan_of(plan)
            self.done = done_of(done, len(self.plan))
        except ValueError as error:
            raise self._damaged() from error

    def _read(self, name: str) -> Any:
        """The content of a JSON file; None where there is none."""
        try:
            with os.fdopen(os.open(self.path / name, os.O_RDONLY | NO_FOLLOW), "rb") as file:
                data = file.read(_LARGEST + 1)
            if len(data) > _LARGEST:
                raise self._damaged()
            return parse(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._damaged() from error

    def _damaged(self) -> OutputError:
        return OutputError(
            f"the records in {self.path} are damaged or of another version: --restart begins the job again"
        )

    def _save_done(self) -> None:
        self._save(_DONE, done_content(self.done))

    def _save(self, name: str, content: Mapping[str, Any]) -> None:
        path, part = self.path / name, self.path / f"{name}.part"
        with output_errors(str(path)):
            create(part)
            with part.open("w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
            durable.replace(part, path)


def _size(path: Path) -> int | None:
    """Bytes of a regular file, None for anything else."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None
