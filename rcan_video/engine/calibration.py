"""How many frames go through the network together: as many as make a frame quicker, measured before the first one.

More frames pay only until they fill the device, and cost once the feature maps no longer fit its cache. Where that is
depends on device, network, precision and frame size, and no table knows them all.

Only the batch comes out of it. Frames do not see each other in the network, so that they are the same in any batch, up
to the last bit of what a device's libraries compute in another order; and no job is tied to its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from rcan_video.engine.backend import Backend, Stream
from rcan_video.engine.memory import is_oom

BATCHES = (1, 2, 4, 8)

GAIN = 0.04
"""By how much a frame has to be quicker for the next size to be taken. It takes twice the memory, and an incomplete
last batch is computed in full: 3.5 frames for nothing on average with batches of 8, 3.5 % of a clip of 100 frames."""

SECONDS = 1.0
"""What all calls may take, about. Where one frame alone takes longer, it is computed twice."""

TRIALS = 2.0
"""Seconds of cuDNN's trials, for shapes of more than one frame, after which no other shape is begun: a bound for what
could not be looked at here. The trials of the shape that is taken are not in vain, the job would have to wait for
them."""

_WINDOW = 0.1
"""Seconds, about, for which a size is timed: twice half of it, for the better half counts. What happens to disturb a
device that works for 1 ms is large beside that, and so is one wait of the host."""

_MOST_CALLS = 100  # of the network between two waits


@dataclass(frozen=True, slots=True)
class _Timing:
    """Seconds: ``first`` of the first call, in which cuDNN tries its algorithms, ``call`` of a later one, and
    ``total`` that were spent on the latter."""

    first: float
    call: float
    total: float


def calibrate(prepare: Callable[[int], Callable[[], object]], backend: Backend, frame_bytes: int) -> int:
    """Frames per batch for the network that ``prepare`` gives for a number of frames, as a function that queues it once
    for frames that lie on the device already; ``frame_bytes`` is about what one frame takes on its way.

    Those of ``BATCHES`` that fit half of the free memory are tried in their order, until one is not worth it
    (``GAIN``), does not work, or would take too long. Without a word: nothing is lost but speed. 1 without trying where
    the device's free memory is no reason for another (``Backend.free_bytes``) or has no room for two.

    Raises RuntimeError where one frame does not work, unless for want of memory, and where the device is lost.
    """
    free = backend.free_bytes()
    batches = [] if free is None else [batch for batch in BATCHES if batch * frame_bytes <= free // 2]
    if len(batches) < 2:
        return 1
    stream = backend.stream()
    backend.join(stream)  # the weights came there on the current one
    chosen, fastest = 1, math.inf
    spent = expected = trials = 0.0
    for batch in batches:
        if spent + expected > SECONDS or trials > TRIALS:
            break
        try:
            with backend.on(stream):
                timing = _timed(prepare(batch), stream)
        except (RuntimeError, MemoryError) as error:
            if batch == 1 and not is_oom(error):
                raise
            break
        if timing.call / batch > fastest * (1 - GAIN):
            break
        chosen, fastest = batch, timing.call / batch
        spent += timing.call + timing.total
        expected = 4 * timing.call + _WINDOW  # a first call for twice as many frames, and as long a window or a call
        if batch > 1:  # the very first call loads libraries as well, which the job has to wait for in any case
            trials += timing.first - timing.call
    stream.synchronize()  # raises where what did not work has cost the device
    backend.empty_cache()  # the job's shapes are others, and on other streams
    return chosen


def _timed(call: Callable[[], object], stream: Stream) -> _Timing:
    def seconds(calls: int) -> float:
        begun = perf_counter()
        for _ in range(calls):
            call()
        stream.synchronize()
        return perf_counter() - begun

    first = seconds(1)
    calls, fastest, total = 1, math.inf, 0.0
    while total < _WINDOW:
        elapsed = seconds(calls)
        total += elapsed
        fastest = min(fastest, elapsed / calls)
        calls = max(1, min(_MOST_CALLS, int(_WINDOW / 2 / max(fastest, 1e-6))))
    return _Timing(first, fastest, total)
