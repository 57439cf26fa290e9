"""What is on record of a job, as JSON: ``plan.json``, and ``done.json``, in which nothing is believed unseen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from rcan_video.frames import Mark
from rcan_video.media.segment import Encoded
from rcan_video.prepare import Ending
from rcan_video.segments.plan import Plan

T = TypeVar("T")

_VERSION = 1
_MOST = 1 << 62  # no size, no count and no time is more


@dataclass(frozen=True, slots=True)
class Record:
    """A segment that is whole: ``encoded``, None where it got no frame, and the place behind it, None at the end.

    ``begin`` is the digest of its first frame where it was decoded apart from the segment before: it is sure once that
    one has a mark with the same.
    """

    encoded: Encoded | None
    mark: Mark | None
    begin: str | None = None


@dataclass(slots=True)
class Done:
    """What ``done.json`` holds. ``joined``: bytes of the output, once that is whole and about to get its name."""

    records: dict[int, Record] = field(default_factory=dict)
    ending: Ending | None = None
    joined: int | None = None

    @property
    def frames(self) -> int:
        return sum(record.encoded.frames for record in self.records.values() if record.encoded is not None)


def plan_content(plan: Plan) -> dict[str, Any]:
    """A plan for JSON."""
    return {
        "version": _VERSION,
        "identity": dict(plan.identity),
        "by_pts": plan.by_pts,
        "frames": plan.frames,
        "starts": list(plan.starts),
    }


def done_content(done: Done) -> dict[str, Any]:
    """What is done, for JSON."""
    return {
        "version": _VERSION,
        "segments": {str(number): asdict(record) for number, record in sorted(done.records.items())},
        "ending": None if done.ending is None else asdict(done.ending),
        "joined": done.joined,
    }


def parse(data: bytes) -> Any:
    """The content of a file of this version. Raises ValueError."""
    with _damage():
        content = json.loads(data)
        if content["version"] != _VERSION:
            raise ValueError("version")
        return content


def plan_of(content: Any) -> Plan:
    """The plan in what ``parse`` gave. Raises ValueError."""
    with _damage():
        return Plan(
            {str(name): str(value) for name, value in content["identity"].items()},
            tuple(int(start) for start in content["starts"]),
            bool(content["by_pts"]),
            int(content["frames"]),
        )


def done_of(content: Any, segments: int) -> Done:
    """What is done of a plan of so many ``segments``, in what ``parse`` gave. Raises ValueError."""
    with _damage():
        records = {}
        for number, record in content["segments"].items():
            if not 0 <= int(number) < segments:
                raise ValueError(number)
            begin = record.get("begin")
            if begin is not None and not isinstance(begin, str):
                raise TypeError("begin")
            records[int(number)] = Record(_build(Encoded, record["encoded"]), _build(Mark, record["mark"]), begin)
        ending = content["ending"]
        if ending is not None:
            ending["notices"] = tuple(str(notice) for notice in ending["notices"])
        joined = content["joined"]
        return Done(records, _build(Ending, ending), None if joined is None else int(joined))


def _build(kind: type[T], content: Mapping[str, Any] | None) -> T | None:
    """A value of ``kind`` from its fields. Raises TypeError where they are not of its types."""
    if content is None:
        return None
    built = kind(**content)
    for part in fields(built):  # type: ignore[arg-type]
        value = getattr(built, part.name)
        if not str(part.type).startswith(type(value).__name__):
            raise TypeError(part.name)
        if isinstance(value, int) and abs(value) > _MOST:
            raise ValueError(part.name)
    return built


@contextlib.contextmanager
def _damage() -> Iterator[None]:
    """Whatever comes of content that is not as it was written, as one error."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from error
