"""One training in one process, or in as many as ``torchrun`` has started: then they share each batch evenly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rcan_video.engine.backend import resolve_device
from rcan_video.errors import DeviceError, UsageError

_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what it sets, beside WORLD_SIZE
_TRANSPORTS = ("gloo", "NCCL", "ncclUnhandled")  # they report a connection that was closed as a plain RuntimeError
_NUMBERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT")

# Others wait while one decodes and compresses the data. Whoever dies is noticed by torchrun, not by this.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Processes:
    """Where this process stands: ``rank`` of ``count``, on ``device``."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def places(self, batch: int) -> range:
        """This process's part of a batch. Raises UsageError where the batch cannot be shared evenly."""
        if batch % self.count:
            raise UsageError(f"--batch {batch} cannot be shared by {self.count} processes: give a multiple")
        share = batch // self.count
        return range(self.rank * share, (self.rank + 1) * share)

    def parallel(self, net: nn.Module) -> nn.Module:
        """``net`` with gradients that are averaged over all processes."""
        return nn.parallel.DistributedDataParallel(net) if self.count > 1 else net

    def mean(self, value: Tensor) -> Tensor:
        """The mean of all processes' ``value``, for all."""
        if self.count > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.count
        return value

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()

    def from_first(self, value: Any) -> Any:
        """The first process's ``value``, for all."""
        values = [value]
        if self.count > 1:
            dist.broadcast_object_list(values)
        return values[0]


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the others. Raises DeviceError where there is no such device or one of the others has gone, UsageError where
    there are said to be others and not how to reach them."""
    count = os.environ.get("WORLD_SIZE", "1")
    if missing := [name for name in _TORCHRUN if count != "1" and name not in os.environ]:
        raise UsageError(
            f"WORLD_SIZE is {count} in the environment, without {', '.join(missing)}: "
            "start several processes with torchrun, or unset it for one"
        )
    if count == "1":
        yield Processes(0, 1, resolve_device(device))
        return
    if wrong := [name for name in _NUMBERS if not os.environ.get(name, "0").isdecimal()]:
        raise UsageError(
            f"{', '.join(wrong)} in the environment is no number: "
            "start several processes with torchrun, or unset WORLD_SIZE for one"
        )
    chosen = resolve_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_PATIENCE)
    except ValueError as error:
        raise UsageError(f"the environment of torchrun is none ({error}): start several processes with it") from error
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), chosen)
        dist.barrier()  # whoever leaves may take the others down, and the first is still writing
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(name in str(error) for name in _TRANSPORTS):
            raise
        raise DeviceError("another process of this training has ended: see what it said") from error
    finally:
        dist.destroy_process_group()
