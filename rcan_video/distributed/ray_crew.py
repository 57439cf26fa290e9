"""Workers as actors of Ray, one for each GPU or each so many CPUs of a cluster."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from rcan_video.distributed.crew import Lost
from rcan_video.distributed.work import Answer, Setting, Worker
from rcan_video.engine.cores import available_cores
from rcan_video.errors import DeviceError, UsageError
from rcan_video.media.parcel import Parcel
from rcan_video.options import DeviceOptions

# Of a local cluster: what is under way at most, and the answers.
_STORE_BYTES = 1 << 30
# The part of this node's object store that parcels may take: answers come there, too.
_PARCELS = 0.5
# Seconds between two looks at the nodes of the cluster: they come and go.
_LOOK = 5.0
# Seconds that a head node may take to answer at all.
_KNOCK = 10.0
_DEVICES = ("auto", "cpu", "cuda")


@dataclass(slots=True)
class _Member:
    """An actor; ``work`` is what it was asked last, None where it has answered."""

    actor: Any
    work: Any


class RayCrew:
    """A ``Crew`` on the Ray cluster at ``address``: "auto" (this machine belongs to one), "local" (one is started here,
    for this job alone), or as ``ray.init`` takes it. ``device`` says what each worker computes on.

    Raises UsageError where Ray is not installed, and DeviceError where there is no cluster.
    """

    def __init__(self, address: str, device: DeviceOptions) -> None:
        if device.device not in _DEVICES:
            raise UsageError(
                f"--ray gives each worker a device of its own: leave --device {device.device} out, or use cpu or cuda"
            )
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as Ray will have it, without its warning
        try:
            import ray
        except ImportError as error:
            raise UsageError(f"--ray needs Ray ({error}): pip install 'rcan-video[ray]'") from error
        self._ray: Any = ray  # which has types for some of its functions only
        self._connect(address)
        total = self._ray.cluster_resources()
        gpus = device.device != "cpu" and total.get("GPU", 0) >= 1
        if device.device == "cuda" and not gpus:
            self.close()
            raise DeviceError("the Ray cluster has no GPU: leave --device cuda out, or start nodes that have one")
        self._cpus = device.threads or 1
        self._needs = {"CPU": self._cpus, "GPU": 1 if gpus else 0}
        self._device = replace(device, device="auto" if gpus else "cpu", threads=None if gpus else self._cpus)
        self._members: dict[int, _Member] = {}
        self._count = 0
        self._setting: Any = None
        self._looked = 0.0
        self._size = 0
        self._look()

    def _connect(self, address: str) -> None:
        ours = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        options: dict[str, Any] = {"address": address, "logging_level": "ERROR", "log_to_driver": False}
        if address == "local":
            options |= {
                "num_cpus": available_cores(),
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
            }
        try:
            _knock(address)
            self._ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            text = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
            raise DeviceError(
                f"there is no Ray cluster at {address} ({text}): start one with ray start --head, or use --ray local"
            ) from error
        finally:
            # Ray ends a driver on SIGTERM by a handler of its own.
            if threading.current_thread() is threading.main_thread():
                for number, handler in ours.items():
                    signal.signal(number, handler)

    @property
    def size(self) -> int:
        return self._size

    @property
    def room(self) -> int:
        mine = self._ray.get_runtime_context().get_node_id()
        stores = [n["Resources"].get("object_store_memory", 0) for n in self._ray.nodes() if n["NodeID"] == mine]
        return int(_PARCELS * max(stores, default=_STORE_BYTES))

    def describe(self) -> str:
        nodes = len([node for node in self._ray.nodes() if node["Alive"]])
        each = "1 GPU" if self._needs["GPU"] else f"{self._cpus} CPU{'s' if self._cpus > 1 else ''}"
        return f"Ray, {self._size} workers of {each} on {nodes} node{'s' if nodes > 1 else ''}"

    def open(self, setting: Setting) -> None:
        if not self._size:
            needs = " and ".join(f"{amount:g} {kind}" for kind, amount in self._needs.items() if amount)
            raise DeviceError(
                f"no node of the Ray cluster has {needs} for a worker: start larger ones, or lower --threads"
            )
        self._setting = self._ray.put(replace(setting, device=self._device))

    def idle(self) -> list[int]:
        self._look()
        while len(self._members) < self._size:
            kind = self._ray.remote(num_cpus=self._needs["CPU"], num_gpus=self._needs["GPU"], max_restarts=0)(Worker)
            actor = kind.remote(self._setting)
            self._members[self._count] = _Member(actor, actor.ready.remote())
            self._count += 1
        return [name for name, member in self._members.items() if member.work is None]

    def send(self, worker: int, parcel: Parcel) -> None:
        member = self._members[worker]
        member.work = member.actor.compute.remote(self._ray.put(parcel))

    def wait(self, seconds: float) -> list[tuple[int, Answer | Lost]]:
        asked = {member.work: name for name, member in self._members.items() if member.work is not None}
        if not asked:
            time.sleep(seconds)
            return []
        done, _ = self._ray.wait(list(asked), num_returns=1, timeout=seconds)
        found: list[tuple[int, Answer | Lost]] = []
        for reference in done:
            name = asked[reference]
            self._members[name].work = None
            answer = self._get(reference)
            if isinstance(answer, Lost):
                self._dismiss(name)
            if not isinstance(answer, str):  # which says that it is there
                found.append((name, answer))
        return found

    def close(self) -> None:
        self._setting = None
        if not self._ray.is_initialized():
            return
        for name in list(getattr(self, "_members", ())):
            self._dismiss(name)
        self._ray.shutdown()

    def _get(self, reference: Any) -> Answer | Lost | str:
        errors = self._ray.exceptions
        try:
            answer: Answer | str = self._ray.get(reference)
        except errors.RayTaskError as error:
            cause = str(error.cause or error).strip().splitlines()[-1]
            raise DeviceError(f"a worker failed ({cause}): rcan-video has to be installed on every node") from error
        except errors.RayError as error:
            return Lost(str(error).strip().splitlines()[0].rstrip(".:").lower() or type(error).__name__)
        return answer

    def _dismiss(self, name: int) -> None:
        member = self._members.pop(name)
        self._ray.kill(member.actor)

    def _look(self) -> None:
        """How many workers the nodes that are there have room for."""
        if self._size and time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        rooms = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        self._size = sum(
            min(int(room.get(kind, 0) // amount) for kind, amount in self._needs.items() if amount) for room in rooms
        )


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK).close()
