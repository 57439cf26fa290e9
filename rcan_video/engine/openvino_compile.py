"""Compiling for OpenVINO, in a process of its own where torch is not loaded yet.

Torch is there to convert the network and never used again, but a process does not give back what it has loaded; nor
what compiling took. So another one does both and hands over what came out, as the cache would have.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from rcan_video.engine.openvino_silent import openvino
from rcan_video.engine.task import Task
from rcan_video.errors import WeightsError
from rcan_video.frames import ColorSpec, PlaneLayout
from rcan_video.network.catalog import LoadedModel

DEVICE = "CPU"

# The path of modules as this process has it, whoever set it.
_CHILD = "import sys; sys.path[:] = sys.argv[1:]; from rcan_video.engine.openvino_compile import child; child()"


# Errors that mean something to whoever asked; all else is OpenVINO's.
_KINDS: dict[str, type[Exception]] = {"WeightsError": WeightsError, "MemoryError": MemoryError}


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
    """The other process: ``_written`` on standard input; on standard output what was compiled, or an error's kind and
    text."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both: the first process ends this one
    try:
        made = _here(*_read(sys.stdin.buffer))
        answer = [b"made", made]
    except Exception as error:
        answer = [type(error).__name__.encode(), str(error).encode()]
    sys.stdout.buffer.write(b"\n".join(answer))
    sys.stdout.buffer.flush()
    os._exit(0)  # taking down torch and OpenVINO in good order would take another third of a second


def _apart(task: Task, threads: int | None) -> bytes:
    line = [sys.executable, "-c", _CHILD, *sys.path]
    done = subprocess.run(line, input=_written(task, threads), capture_output=True)
    if done.returncode == -signal.SIGKILL:  # as the kernel does it when memory runs out
        raise MemoryError
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise RuntimeError(f"the process that compiles has failed: {said}")
    kind, _, content = done.stdout.partition(b"\n")
    if kind != b"made":
        raise _KINDS.get(kind.decode(), RuntimeError)(content.decode())
    return content


def _written(task: Task, threads: int | None) -> bytes:
    """A line of JSON, and the bytes of the checkpoint."""
    model = task.model
    sides = [
        (asdict(layout), (color.matrix, color.full_range, color.siting)) for layout, color in (task.source, task.target)
    ]
    head = {
        "model": (model.name, str(model.path), model.sha256, model.scale),
        "sides": sides,
        "rest": (task.size, task.tile, task.precision, task.reduced),
        "threads": threads,
    }
    return json.dumps(head).encode() + b"\n" + model.content


def _read(stream: BinaryIO) -> tuple[Task, int | None]:
    head = json.loads(stream.readline())
    name, path, sha256, scale = head["model"]
    source, target = ((PlaneLayout(**layout), ColorSpec(*color)) for layout, color in head["sides"])
    size, tile, precision, reduced = head["rest"]
    model = LoadedModel(name, Path(path), sha256, scale, stream.read())
    reduced = None if reduced is None else tuple(reduced)
    return Task(model, source, target, tuple(size), tile, precision, reduced), head["threads"]


def _here(task: Task, threads: int | None) -> bytes:
    import torch

    from rcan_video.engine.openvino_graph import convert

    layout, _ = task.source
    dtype = torch.uint8 if layout.sample_bytes == 1 else torch.uint16
    model = convert(task.module(), layout.shapes(*task.size), dtype)
    compiled: bytes = openvino.Core().compile_model(model, DEVICE, settings(threads)).export_model().getvalue()
    return compiled
