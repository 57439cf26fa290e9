"""Workers on other machines, as the driver of a job sees them; Ray is one way to have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rcan_video.distributed.work import Answer, Setting
from rcan_video.media.parcel import Parcel


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker that is gone, with the segment that it had; ``why`` is a sentence's end."""

    why: str


class Crew(Protocol):
    """A changing number of workers, each called by a number of its own, which is never used again."""

    def open(self, setting: Setting) -> None:
        """Begin: ``setting`` is sent once, whatever the number of workers. Raises DeviceError."""

    def describe(self) -> str:
        """A line for people."""

    @property
    def size(self) -> int:
        """How many workers there may be."""

    @property
    def room(self) -> int:
        """How many bytes of parcels may be under way at a time; one parcel may, whatever it weighs."""

    def idle(self) -> list[int]:
        """The workers that have nothing to do. Starts new ones where there is room."""

    def send(self, worker: int, parcel: Parcel) -> None:
        """Give an idle worker a segment to compute."""

    def wait(self, seconds: float) -> list[tuple[int, Answer | Lost]]:
        """What has come back, at the latest after ``seconds``. Who has answered is idle again, who is lost is gone."""

    def close(self) -> None:
        """End all workers, whatever they do."""
