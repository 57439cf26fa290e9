"""What every engine offers, whatever computes behind it. Needs no torch at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rcan_video.errors import InputError, NotFinite
from rcan_video.frames import FrameBatch, PlaneLayout


class Unfaithful(Exception):
    """A quicker way to compute does not give what the plain one gives. The text follows the engine's name in a
    sentence; only ``engine/ladder.py`` hears it."""


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
        queue, when it is done. The caller may drop the frames then, but not write into them: the engine may keep them
        until their result is there.

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


def check_frames(batch: FrameBatch, most: int, layout: PlaneLayout, size: tuple[int, int]) -> None:
    """Refuse what an engine for ``most`` frames of ``layout`` and ``size`` (width, height) cannot take.

    Copying would broadcast a plane of another shape and convert one of another type without a word.
    Raises InputError, and ValueError for too many frames.
    """
    if len(batch) > most:
        raise ValueError(f"a batch of {len(batch)} frames for an engine of {most}")
    dtype = "uint8" if layout.sample_bytes == 1 else "uint16"
    expected = [(shape, dtype) for shape in layout.shapes(*size)]
    for frame in batch.frames:
        found = [(tuple(plane.shape), str(plane.dtype).removeprefix("torch.")) for plane in frame.planes]
        if found != expected:
            height, width = found[0][0]
            raise InputError(
                f"frame {frame.index} is {width}x{height} in {len(found)} planes of {found[0][1]}, but the video "
                f"began as {size[0]}x{size[1]} {layout.pix_fmt}: cut the input where its format changes"
            )


def not_finite(batch: FrameBatch, device: str) -> NotFinite:
    """The error for a batch in which the network gave NaN or infinity."""
    return NotFinite(
        f"the network returned NaN or infinity in frames {batch.frames[0].index} to {batch.frames[-1].index} on "
        f"{device}: the weights are damaged or not made for such pictures; try another --model"
    )
