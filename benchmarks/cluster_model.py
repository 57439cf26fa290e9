"""The driver's rules against 1 to 1,000 workers, simulated: ``python benchmarks/cluster_model.py``.

Nothing is computed: segments take as long as ``--fps`` says, workers are lost and slow by chance (always the same one),
the driver cuts and receives one segment at a time, and its network has a width. What is asked is which of these makes a
job longer than its work divided by its workers. The rules (order, bytes under way, a second start of what takes long,
the first answer wins) and their constants are those of ``rcan_video.distributed.driver``.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
from dataclasses import dataclass

from rcan_video.distributed.driver import SLOW, segment_length


@dataclass(frozen=True, slots=True)
class World:
    """``fps`` of one worker; seconds for ``cut``ting a segment and for ``keep``ing it (both block the driver); bytes of
    a ``parcel`` and an ``answer``; ``width`` of the driver's network in bytes/s; ``mtbf`` of a worker in hours, which
    then needs ``start`` seconds; ``room`` for parcels in bytes; a ``share`` of the segments that
    takes ``slower`` times as long."""

    frames: int
    length: int
    fps: float
    cut: float
    keep: float
    parcel: float
    answer: float
    width: float
    room: float
    mtbf: float
    start: float
    share: float
    slower: float


@dataclass(slots=True)
class Outcome:
    seconds: float
    twice: int
    lost: int
    most_bytes: float


def simulate(world: World, workers: int, seed: int = 1) -> Outcome:
    """One job. Events are (time, sequence, worker, segment, whether the worker dies there)."""
    chance = random.Random(seed)
    segments = -(-world.frames // world.length)
    todo, done = list(range(segments))[::-1], set[int]()
    idle, flights = list(range(workers)), dict[int, tuple[int, float]]()
    waking: list[tuple[float, int]] = [(world.start, worker) for worker in range(workers)]
    heapq.heapify(waking)
    idle.clear()
    events: list[tuple[float, int, int, int, bool]] = []
    lasted: list[float] = []
    now = driver = wire = 0.0
    sequence = sent = lost = 0
    most = 0.0
    while len(done) < segments:
        while idle:
            late = [
                (begun, number)
                for number, begun in flights.values()
                if lasted and now - begun > SLOW * statistics.median(lasted[-200:])
            ]
            counts = [number for number, _ in flights.values()]
            late = [(begun, number) for begun, number in late if counts.count(number) == 1 and number not in done]
            if not todo and not late:
                break
            if flights and (len(flights) + 1) * world.parcel > world.room:
                break
            number = todo.pop() if todo else min(late)[1]
            worker = idle.pop()
            driver = max(driver, now) + world.cut
            wire = max(wire, driver) + world.parcel / world.width
            took = world.length / world.fps * chance.gauss(1, 0.05)
            if chance.random() < world.share:
                took *= world.slower
            dies = chance.expovariate(1 / (world.mtbf * 3600))
            flights[worker] = (number, now)
            sequence += 1
            sent += 1
            heapq.heappush(events, (wire + min(took, dies), sequence, worker, number, dies < took))
            most = max(most, len(flights) * world.parcel)
        ahead = [events[0][0]] if events else []
        ahead += [waking[0][0]] if waking else []
        if not todo and idle and lasted and flights:  # time alone may make a segment late
            ahead.append(now + 1.0)
        now = max(now, min(ahead))
        while waking and waking[0][0] <= now:
            idle.append(heapq.heappop(waking)[1])
        while events and events[0][0] <= now:
            _, _, worker, number, died = heapq.heappop(events)
            _, begun = flights.pop(worker)
            if died:
                lost += 1
                heapq.heappush(waking, (now + world.start, worker))
                if number not in done and all(other != number for other, _ in flights.values()):
                    todo.append(number)
                continue
            wire = max(wire, now) + world.answer / world.width
            driver = max(driver, wire) + world.keep
            idle.append(worker)
            if number not in done:
                done.add(number)
                lasted.append(now - begun)
    return Outcome(max(now, driver), sent - segments - lost, lost, most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=150_000, help="of the film: 100 minutes at 25 frames/s")
    parser.add_argument("--fps", type=float, default=4.0, help="of one worker")
    parser.add_argument("--cut", type=float, default=0.02, help="seconds")
    parser.add_argument("--keep", type=float, default=0.05, help="seconds")
    parser.add_argument("--source", type=float, default=25e3, help="bytes of a frame: 5 Mbit/s")
    parser.add_argument("--enlarged", type=float, default=80e3, help="bytes of a frame of the output")
    parser.add_argument("--lead", type=int, default=75, help="frames of a parcel before and behind its segment")
    parser.add_argument("--room", type=float, default=8e9, help="bytes under way: half of the object store")
    parser.add_argument("--width", type=float, default=125e6, help="bytes/s: 1 Gbit/s")
    parser.add_argument("--mtbf", type=float, default=24.0, help="hours between losses of a worker (spot machines)")
    parser.add_argument("--start", type=float, default=30.0, help="seconds until a worker is ready")
    parser.add_argument("--share", type=float, default=0.02, help="of segments that take long")
    parser.add_argument("--slower", type=float, default=4.0)
    given = vars(parser.parse_args())
    source, enlarged, lead = (given.pop(name) for name in ("source", "enlarged", "lead"))
    print(
        "| workers | frames of a segment | job, s | of the ideal | sent twice | workers lost | under way at most, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for workers in (1, 2, 8, 32, 100, 300, 1000):
        length = segment_length(given["frames"], workers)
        world = World(**given, length=length, parcel=source * (length + lead), answer=enlarged * length)
        found = simulate(world, workers)
        ideal = world.frames / world.fps / workers
        print(
            f"| {workers} | {length} | {found.seconds:.0f} | {ideal / found.seconds:.1%} | {found.twice} | "
            f"{found.lost} | {found.most_bytes / 1e6:.0f} |"
        )


if __name__ == "__main__":
    main()
