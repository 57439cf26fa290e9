"""What of a training cannot be done, said before anything is decoded."""

from __future__ import annotations

import os
from pathlib import Path

from rcan_video.durable import same_file
from rcan_video.engine.compiled import check_compiler
from rcan_video.errors import OutputError, UsageError
from rcan_video.options import TrainOptions
from rcan_video.train.processes import Processes
from rcan_video.train.state import LATEST, has_state
from rcan_video.train.video import SIDE


def check_result(output: Path, folder: Path, *, overwrite: bool) -> None:
    """Whether the result can be written at the end. Raises OutputError."""
    parent = output.absolute().parent
    if output.suffix != ".safetensors":
        raise OutputError(f"{output}: must be called *.safetensors, which is what is written")
    if output.is_dir():
        raise OutputError(f"{output}: is a folder; choose another name")
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"{output}: its folder does not exist or cannot be written; choose another place")
    if same_file(folder, output):
        raise OutputError(f"{output}: cannot be the result and the folder of --state: choose another --state")
    if output.exists() and not overwrite and not has_state(folder):
        raise OutputError(f"{output}: exists; give --overwrite (-y) to replace it when the training is done")


def check_options(options: TrainOptions, output: Path, folder: Path) -> None:
    """Options that contradict each other. Raises UsageError."""
    if options.validate_every % options.log_every:
        raise UsageError(
            f"--validate-every {options.validate_every} is no multiple of --log-every {options.log_every}: "
            "scores are rows of the log"
        )
    if options.factors and options.optimizer == "muon":
        raise UsageError("--optimizer muon takes kernels as they are: give --no-factors as well")
    if options.temporal and options.degradation != "video":
        raise UsageError("--temporal is about frames of a sequence: give --degradation video as well")
    if options.degradation == "video" and options.patch > (side := SIDE[options.scale]):
        raise UsageError(f"compressed clips are of {side} pixels, --patch is {options.patch}: give {side} or less")
    sources = [("--init", given) for given in options.init]
    if options.teacher is not None:
        sources.append(("--teacher", options.teacher))
    for name, given in sources:
        for written in (output, folder / LATEST):
            if same_file(Path(given), written):
                raise UsageError(f"{written}: would be written over {name}, and could not go on: choose another name")


def check_processes(options: TrainOptions, processes: Processes) -> None:
    """Options that these processes or their device cannot have. Raises UsageError, DeviceError."""
    share = len(processes.places(options.batch))
    if options.temporal and share % 2:
        raise UsageError(
            f"--temporal takes pairs of frames: give a --batch that is a multiple of {2 * processes.count}"
        )
    if options.precision == "half" and processes.device.type != "cuda":
        raise UsageError(f"--precision half is for CUDA, not {processes.device.type}: give --precision bf16 or single")
    if options.compile:
        check_compiler(processes.device)
