"""Compiling for OpenVINO, in a process of its own where torch is not loaded yet.

Torch is there to convert the network and never used again, but a process does not give back what it has loaded; nor
what compiling took. So another one does both and hands over what came out, as the cache would have.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from typing import Any

import openvino

from rcan_video.engine.task import Task

DEVICE = "CPU"

# The path of modules as this process has it, whoever set it.
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from rcan_video.engine.openvino_compile import child; child()"


def settings(threads: int | None) -> dict[str, Any]:
    """OpenVINO's, for a network that shares the machine with a decoder and an encoder."""
    return {
        "INFERENCE_PRECISION_HINT": "f32",  # its own choice is bfloat16 where the CPU has it
        "NUM_STREAMS": "1",
        "ENABLE_CPU_PINNING": False,  # decoder and encoder run on the same cores
        **({} if threads is None else {"INFERENCE_NUM_THREADS": threads}),
    }


def compile_task(task: Task, threads: int | None) -> bytes:
    """The network of ``task``, compiled: what ``Core.import_model`` reads on this machine.

    Raises RuntimeError where OpenVINO cannot, MemoryError, and WeightsError as ``Task.module``.
    """
    return _here(task, threads) if "torch" in sys.modules else _apart(task, threads)


def child() -> None:
    """The other process: a pickled task and its threads on standard input, bytes or an exception on standard output,
    pickled."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both: the first process ends this one
    answer: object
    try:
        answer = _here(*pickle.load(sys.stdin.buffer))
    except Exception as error:
        answer = error
    sys.stdout.buffer.write(pickle.dumps(answer))


def _apart(task: Task, threads: int | None) -> bytes:
    line = [sys.executable, "-c", _CHILD, *sys.path]
    done = subprocess.run(line, input=pickle.dumps((task, threads)), capture_output=True)
    if done.returncode == -signal.SIGKILL:  # as the kernel does it when memory runs out
        raise MemoryError
    try:
        answer = pickle.loads(done.stdout)
    except (EOFError, pickle.UnpicklingError) as error:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise RuntimeError(f"the process that compiles has failed: {said}") from error
    if isinstance(answer, Exception):
        raise answer
    assert isinstance(answer, bytes)
    return answer


def _here(task: Task, threads: int | None) -> bytes:
    import torch

    from rcan_video.engine.openvino_graph import convert

    layout, _ = task.source
    dtype = torch.uint8 if layout.sample_bytes == 1 else torch.uint16
    model = convert(task.module(), layout.shapes(*task.size), dtype)
    compiled: bytes = openvino.Core().compile_model(model, DEVICE, settings(threads)).export_model().getvalue()
    return compiled
