"""A backend on the CPU that checks the order of memory accesses, as if its streams really ran side by side.

The host and every stream is an *actor* with a vector clock (Mattern 1988; Fidge 1988): its own count of operations,
and the counts of the others that it is known to come after. Recording an event copies the stream's clock, waiting for
it takes the maximum. Operations run at once, in the order of the calls; what is checked is whether another order was
possible: an access to a storage must come after the last write to it, and a write also after all reads since, by the
clocks. Every torch operation is seen through a ``TorchDispatchMode``, so the scheduler under test is the real one.

What it does not see: that the streams were joined to the current stream in the beginning (work outside any stream
counts as the host's), whether host memory is really pinned, and what a kernel does besides its declared arguments.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Clock = dict[str, int]


class Race(AssertionError):
    """Two accesses to one storage, at least one of them a write, that nothing puts in order."""


class HiddenSync(AssertionError):
    """An operation on a stream whose result the host needs at once: it would wait for the device."""


# Their Python result, or the shape of it, depends on values.
_SYNCHRONISING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::equal",
    "aten::is_nonzero",
    "aten::masked_select",
}


class Access(NamedTuple):
    actor: str
    tick: int
    operation: str


@dataclass
class Storage:
    """What is known of one storage. Keeps the storage itself alive, so that its address is not used again."""

    storage: torch.UntypedStorage
    born: str
    write: Access | None = None
    reads: dict[str, Access] = field(default_factory=dict)


class Actor:
    """The host or a stream."""

    def __init__(self, checker: RaceChecker, name: str) -> None:
        self.checker, self.name = checker, name
        self.clock: Clock = {}

    def follow(self, clock: Clock) -> None:
        """All that the clock has seen happened before what this actor does next."""
        for name, tick in clock.items():
            self.clock[name] = max(self.clock.get(name, 0), tick)

    def wait_event(self, event: CheckedEvent) -> None:
        self.checker.count_call()
        self.follow(self.checker.host.clock)
        self.follow(event.clock)

    def synchronize(self) -> None:
        self.checker.count_call()
        self.checker.host.follow(self.clock)


class CheckedEvent:
    def __init__(self, checker: RaceChecker) -> None:
        self.checker = checker
        self.clock: Clock = {}

    def record(self, stream: Actor) -> None:
        self.checker.count_call()
        stream.follow(self.checker.host.clock)
        self.clock = dict(stream.clock)

    def synchronize(self) -> None:
        self.checker.count_call()
        self.checker.host.follow(self.clock)


class RaceChecker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A ``Backend`` to be used inside ``with checker:``. Raises Race or HiddenSync at the offending operation.

    ``dead``, once set, is raised by every call, as a lost device does; ``calls`` counts them.
    """

    device = torch.device("cpu")
    unified = False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.host = Actor(self, "host")
        self.actor = self.host
        self.operations = 0
        self.calls = 0
        self.dead: RuntimeError | None = None
        self._numbers = itertools.count(1)
        self._storages: dict[int, Storage] = {}

    def count_call(self) -> None:
        self.calls += 1
        if self.dead is not None:
            raise self.dead

    # the backend

    def name(self) -> str:
        return "race checker"

    def free_bytes(self) -> int | None:
        return None

    def stream(self) -> Actor:
        self.count_call()
        return Actor(self, f"stream {next(self._numbers)}")

    def event(self) -> CheckedEvent:
        self.count_call()
        return CheckedEvent(self)

    def current(self) -> AbstractContextManager[object]:
        self.count_call()
        return nullcontext()

    @contextmanager
    def on(self, stream: Actor) -> Iterator[None]:
        self.count_call()
        before, self.actor = self.actor, stream
        try:
            yield
        finally:
            self.actor = before

    def join(self, stream: Actor) -> None:
        self.count_call()
        stream.follow(self.host.clock)

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        self.count_call()
        return torch.empty(tuple(shape), dtype=dtype)

    def empty_cache(self) -> None:
        self.count_call()

    # the check

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        actor = self.actor
        self.operations += 1
        if actor is not self.host:
            if func._schema.name in _SYNCHRONISING:
                raise HiddenSync(f"{func} on {actor.name}")
            actor.follow(self.host.clock)  # it is queued after everything that the host has done
        actor.clock[actor.name] = actor.clock.get(actor.name, 0) + 1
        access = Access(actor.name, actor.clock[actor.name], str(func))
        written, read = _arguments(func, args, kwargs)
        result = func(*args, **kwargs)
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        inputs = {_key(tensor) for tensor in written + read}
        # A pure view touches nothing. What an operation's schema says about aliasing cannot be trusted for that:
        # in inference mode composite ones (``to``) come here whole, and claim to alias what they copy.
        if written or not results or any(_key(tensor) not in inputs for tensor in results):
            for tensor in written:
                self._check(tensor, access, writes=True)
            for tensor in read:
                self._check(tensor, access, writes=False)
        for tensor in results:
            if _key(tensor) not in inputs:
                self._storages[_key(tensor)] = Storage(tensor.untyped_storage(), actor.name, access)
        return result

    def _check(self, tensor: Tensor, access: Access, writes: bool) -> None:
        """One storage against its history. A storage that was made outside the mode counts as the host's."""
        seen = self._storages.setdefault(_key(tensor), Storage(tensor.untyped_storage(), self.host.name))
        if seen.born not in (access.actor, self.host.name) and self.actor is not self.host:
            raise Race(f"{access.operation}: storage made on {seen.born}, used on {access.actor}, no record_stream")
        earlier = [seen.write] if seen.write else []
        if writes:
            earlier += seen.reads.values()
        for before in earlier:
            if before.actor != access.actor and self.actor.clock.get(before.actor, 0) < before.tick:
                verb = "writes" if writes else "reads"
                raise Race(
                    f"{access.operation} on {access.actor} {verb} what {before.operation} on {before.actor} uses"
                )
        if writes:
            seen.write, seen.reads = access, {}
        else:
            seen.reads[access.actor] = access


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _arguments(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors that an operation writes, and those that it reads, by its schema."""
    written: list[Tensor] = []
    read: list[Tensor] = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.name in kwargs:
            value = kwargs[argument.name]
        elif position < len(args):
            value = args[position]
        else:
            continue
        into = written if argument.alias_info is not None and argument.alias_info.is_write else read
        into += [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return written, read
