"""What every engine offers, whatever computes behind it. Needs no torch at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rcan_video.frames import FrameBatch


class Done(Protocol):
    """Something that the host can wait for."""

    def synchronize(self) -> object:
        """Blocks until the work is done; raises what went wrong with it."""


class Flag(Protocol):
    """One truth value in memory, as a tensor or an array of one element."""

    def item(self) -> object: ...


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A batch on its way through an engine, to be handed back to ``Engine.result``.

    The fields are the engine's: ``output`` has its final shapes, times and indices from the start, but its planes
    hold garbage, and ``not_finite`` means nothing, until ``done`` has been waited for.
    """

    output: FrameBatch
    done: Done
    not_finite: Flag

    def __len__(self) -> int:
        return len(self.output)

    @property
    def nbytes(self) -> int:
        """Host memory that the ticket, and then its result, keeps."""
        return self.output.nbytes


class Engine(Protocol):
    """One network on one device, for frames of one size and layout.

    One thread calls ``submit`` and one thread, the same or another, calls ``result``; tickets are redeemed in the
    order in which they were given out. Whoever calls ``submit`` bounds how far it runs ahead of ``result``: a ticket
    owns ``nbytes`` of host memory.
    """

    @property
    def batch(self) -> int:
        """The most frames that one ``submit`` takes."""

    def describe(self) -> str:
        """One line for people: engine, device, precision, batch."""

    def submit(self, batch: FrameBatch) -> Ticket:
        """Takes 1 to ``self.batch`` frames and returns as soon as their work is queued, or, on a device that has no
        queue, when it is done. The frames' memory is not needed any more afterwards.

        Raises InputError for a frame of another size or depth, OutOfMemory where not even one frame fits, and
        DeviceError where the device is lost.
        """

    def result(self, ticket: Ticket) -> FrameBatch:
        """The same frames after the network, with the same pts, durations and indices. Blocks until they are there.

        The planes are views of memory that belongs to this result alone: it is never written again and lives as
        long as any of the frames. Raises NotFinite where the network gave NaN or infinity, and DeviceError where the
        device is lost.
        """

    def close(self) -> None:
        """Waits for what is queued and frees the device's memory. Results already fetched stay valid."""
