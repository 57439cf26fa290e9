"""Frames that equal an earlier one: the network is spared, and nothing else changes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import make_clip, picture, read_video, to_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from rcan_video import Options, prepare, upscale
from rcan_video.engine.base import Ticket
from rcan_video.frames import Frame, FrameBatch, PlaneLayout, digest
from rcan_video.options import DeviceOptions, EncodeOptions
from rcan_video.pipeline import Counts, run
from rcan_video.progress import summary
from rcan_video.repeats import DEPTH, Repeats

YUV = PlaneLayout("yuv", 8, 1, 1)
SIZE = (48, 32)


def frame(content: int, index: int) -> Frame:
    return Frame((np.full((2, 3), content, np.uint8),), 100 + 7 * index, 7, index)


class Ready:
    def synchronize(self) -> None: ...

    def item(self) -> bool:
        return False


@dataclass
class Inverting:
    """An engine that inverts, and says what it was given."""

    batch: int
    given: list[list[int]] = field(default_factory=list)

    def describe(self) -> str:
        return "inverting"

    def submit(self, batch: FrameBatch) -> Ticket:
        assert len(batch) <= self.batch
        self.given.append([int(np.asarray(f.planes[0])[0, 0]) for f in batch.frames])
        done = [Frame(tuple(255 - np.asarray(p) for p in f.planes), f.pts, f.duration, f.index) for f in batch.frames]
        return Ticket(FrameBatch(tuple(done)), Ready(), Ready())

    def result(self, ticket: Ticket) -> FrameBatch:
        return ticket.output

    def close(self) -> None: ...


def through(contents: Iterable[int], batch: int) -> tuple[list[list[int]], list[tuple[int, int, int, int]], Counts]:
    """What the engine was given, what was written, and the counts."""
    engine, written = Inverting(batch), []

    def write(one: Frame) -> None:
        written.append((int(np.asarray(one.planes[0])[0, 0]), one.pts, one.duration, one.index))

    counts = run((frame(c, k) for k, c in enumerate(contents)), engine, write, stop=threading.Event())
    return engine.given, written, counts


@pytest.mark.parametrize(
    ("contents", "batch", "given"),
    [
        ([1, 1, 2, 2, 3, 3], 1, [[1], [2], [3]]),
        ([1, 1, 2, 2, 3, 3, 4, 4], 2, [[1, 2], [3, 4]]),  # the batches are full
        ([1, 1, 1, 2, 2, 2, 3, 3], 4, [[1, 2, 3]]),
        ([5] * 40, 4, [[5]]),
        ([1, 2] * 6, 3, [[1, 2]]),  # something that blinks
        ([1, 2, 3] * 3, 1, [[1], [2], [3]] * 3),  # more than is remembered
        ([1, 2, 1, 3, 1, 2], 1, [[1], [2], [3], [2]]),  # the one shown longest ago is forgotten, not the oldest
        ([7], 4, [[7]]),
        ([], 4, []),
    ],
)
def test_the_network_sees_each_picture_once(contents: list[int], batch: int, given: list[list[int]]) -> None:
    assert DEPTH == 2
    assert through(contents, batch)[0] == given


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=40), st.integers(1, 5))
def test_every_frame_is_written_once_in_order_at_its_own_time(contents: list[int], batch: int) -> None:
    given, written, counts = through(contents, batch)
    assert written == [(255 - c, 100 + 7 * k, 7, k) for k, c in enumerate(contents)]
    assert (counts.decoded, counts.written) == (len(contents), len(contents))
    assert counts.reused == len(contents) - sum(map(len, given))


def test_a_still_picture_does_not_wait_for_another() -> None:
    """A pipe may show one for hours: what is known is written before more comes."""
    seen = threading.Semaphore(0)

    def frames() -> Iterable[Frame]:
        yield frame(1, 0)
        for k in range(1, 20):
            yield frame(1, k)
            assert k < 4 * 4 or seen.acquire(timeout=10)

    run(frames(), Inverting(4), lambda _: seen.release(), stop=threading.Event())


def test_what_makes_a_picture_another() -> None:
    planes = [np.array(plane) for plane in picture(PlaneLayout("yuv", 10, 1, 1), SIZE, 0)]
    first = digest(planes)
    padded = []
    for plane in planes:
        wide = np.full((plane.shape[0], plane.shape[1] + 5), 77, plane.dtype)
        wide[:, :-5] = plane
        padded.append(wide[:, :-5])
    assert digest(padded) == first, "padding is no part of it"
    for plane in planes:
        plane[-1, -1] ^= 1
        assert digest(planes) != first, "one bit of one sample"
        plane[-1, -1] ^= 1


def test_memory_is_kept_for_few() -> None:
    repeats = Repeats()
    found = [repeats.find(frame(k, k))[0] for k in range(10)]
    assert [repeats.find(frame(k, k)) for k in (8, 9)] == [(found[8], True), (found[9], True)]
    assert not repeats.find(frame(7, 7))[1]


def doubled(path: Path, times: int, count: int = 8) -> Path:
    frames = [picture(YUV, SIZE, k) for k in range(count)]
    return make_clip(
        path,
        codec="ffv1",
        size=SIZE,
        frames=count * times,
        draw=lambda k: to_frame(frames[k // times], "yuv420p", SIZE),
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_a_clip_of_doubled_frames_takes_half_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    submitted: list[int] = []
    open_devices = prepare.open_devices

    def counting(*arguments: Any) -> Any:
        engine = open_devices(*arguments)
        submit = engine.submit
        engine.submit = lambda b: (submitted.append(len(b)), submit(b))[1]
        return engine

    monkeypatch.setattr(prepare, "open_devices", counting)
    outputs: list[Sequence[tuple[Fraction | None, Any]]] = []
    for times in (1, 2):
        submitted.clear()
        clip, output = doubled(tmp_path / f"{times}.mkv", times), tmp_path / f"out{times}.mkv"
        report = upscale(
            Options(
                str(clip),
                str(output),
                device=DeviceOptions("cpu", batch, threads=1),
                encode=EncodeOptions(codec="ffv1"),
            )
        )
        assert sum(submitted) == 8 and len(submitted) == -(-8 // batch)
        assert (report.frames_in, report.frames_out, report.reused) == (8 * times, 8 * times, 8 * (times - 1))
        assert ("8 of them repeats" in summary(report)) == (times == 2)
        outputs.append(read_video(output))
    once, twice = outputs
    assert [time for time, _ in twice] == [time for time, _ in read_video(tmp_path / "2.mkv")]
    for k, (_, planes) in enumerate(twice):
        assert all(np.array_equal(a, b) for a, b in zip(planes, once[k // 2][1], strict=True))
