"""The training loop. Everything that decides what comes out is here, from top to bottom."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rcan_video.engine.memory import keep_freed_memory
from rcan_video.errors import NotFinite, OutputError
from rcan_video.network import checkpoint
from rcan_video.network.catalog import LoadedModel, load_model
from rcan_video.network.rcan import RCAN
from rcan_video.options import TrainOptions
from rcan_video.train.curve import draw_curve
from rcan_video.train.prepare import Prepared, prepare
from rcan_video.train.processes import Processes, joined
from rcan_video.train.reparam import collapsed, factorise
from rcan_video.train.start import describe, starting_point, to_range
from rcan_video.train.state import Log, StateFolder
from rcan_video.train.tails import official
from rcan_video.version import __version__

_BETAS = (0.9, 0.99)
_LAST_RATE = 1e-6
_CLIP = 1.0  # of the gradient's norm
_AVERAGE = 0.999


class Watch(Protocol):
    """How a training tells what it is doing."""

    def preparing(self, text: str) -> None: ...

    def start(self, description: str, done: int, total: int) -> None: ...

    def update(self, step: int, loss: float) -> None:
        """``step`` iterations are done; ``loss`` is the mean L1 distance, in 0..1, over the last of them."""

    def validated(self, step: int, scores: Mapping[str, float]) -> None: ...

    def finish(self, text: str) -> None: ...


def train(options: TrainOptions, watch: Watch) -> None:
    """Train as ``options`` say, or go on where the same training was cut off; write ``options.output`` at the end.

    Raises RcanVideoError: usage, input, output, weights, device, or a loss that is no longer finite.
    """
    output = Path(options.output)
    folder = Path(options.state) if options.state else output.with_name(f"{output.name}.train")
    _check_output(output, folder, overwrite=options.overwrite)
    _set_up_torch(options)
    init = None if options.init is None else load_model(options.init)
    with joined(options.device) as processes:
        if not processes.first:  # the first decodes into the cache, the others find it there
            processes.wait()
        prepared = prepare(options, watch.preparing)
        if processes.first:
            processes.wait()
            with StateFolder(folder, _recipe(options, prepared, init)) as state:
                _train(options, watch, processes, prepared, init, state, output)
        else:
            _train(options, watch, processes, prepared, init, None, output)


def _train(
    options: TrainOptions,
    watch: Watch,
    processes: Processes,
    prepared: Prepared,
    init: LoadedModel | None,
    state: StateFolder | None,
    output: Path,
) -> None:
    device, places, patches = processes.device, processes.places(options.batch), prepared.patches
    half = options.precision == "half" or (options.precision == "auto" and device.type == "cuda")

    # What trains (kernels with factors), and what is kept: the average over the iterations of its plain kernels.
    net = starting_point(options, init.net if init else None, patches)
    config, average = net.config, copy.deepcopy(net).eval().requires_grad_(False).to(device)
    if options.factors:
        factorise(net)
    net = net.train().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = processes.parallel(net)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], betas=_BETAS, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    losses, step, seconds = torch.zeros((), device=device), 0, 0.0

    if saved := processes.from_first(state.load() if state else None):
        net.load_state_dict(saved["net"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        losses, step, seconds = saved["losses"].to(device), saved["step"], saved["seconds"]
    log = Log(state.folder / "log.csv", step) if state else None
    watch.start(f"{describe(average)}, on {prepared.description}", step, options.iterations)
    if state and not step:
        watch.validated(0, prepared.validation.scores(average, config, device))
    began = saved_at = time.monotonic()
    began -= seconds

    while step < options.iterations:
        rate = learning_rate(step, options)
        for group in optimizer.param_groups:
            group["lr"] = rate
        small, large = (to_range(x.to(device), config) for x in patches.batch(step, places))
        with parametrize.cached():  # each kernel is multiplied out once a step
            with torch.autocast(device.type, torch.float16, enabled=half):
                enlarged = model(small)
            error = (enlarged.float() - large) / config.rgb_range
            distance = error.abs().mean()
            loss = distance + options.fourier * spectral(error) if options.fourier else distance
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            _follow(average, net, min(_AVERAGE, (step + 1) / (step + 10)))
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), _CLIP)
        scaler.step(optimizer)
        scaler.update()
        losses += distance.detach()
        step += 1

        done = step == options.iterations
        if step % options.log_every == 0 or done:
            mean = processes.mean(losses) / ((step - 1) % options.log_every + 1)
            losses.zero_()
            if not math.isfinite(mean):
                raise NotFinite(f"the loss is no longer finite at iteration {step}: give a smaller --lr")
            watch.update(step, mean)
            if state and log:
                scores = {}
                if step % options.validate_every == 0 or done:
                    scores = prepared.validation.scores(average, config, device)
                    watch.validated(step, scores)
                seconds = time.monotonic() - began
                log.add({"step": step, "seconds": round(seconds, 1), "learning_rate": rate, "loss": mean, **scores})
                if scores or done:
                    _save_weights(average, state.folder / "latest.safetensors", options, step, scores)
                    draw_curve(log.rows, state.folder / "curve.png")
        if state and (done or time.monotonic() - saved_at >= options.save_every):
            saved_at = time.monotonic()
            state.save(
                {
                    "net": net.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scaler": scaler.state_dict(),
                    "losses": losses,
                    "step": step,
                    "seconds": saved_at - began,
                }
            )
    if state:
        scores = prepared.validation.scores(average, config, device)
        _save_weights(average, output, options, step, scores)
        watch.finish(f"{output}: {step} iterations" + "".join(f", {k} {v:.3f} dB" for k, v in scores.items()))


def learning_rate(step: int, options: TrainOptions) -> float:
    """Linear warm-up, constant, then a cosine to 1e-6 over the last ``decay`` of all iterations."""
    warm = min(1.0, (step + 1) / max(options.warmup, 1))
    left = (options.iterations - step) / max(options.decay * options.iterations, 1.0)
    return max(options.learning_rate * warm * 0.5 * (1 - math.cos(math.pi * min(left, 1.0))), _LAST_RATE)


def spectral(error: Tensor) -> Tensor:
    """L1 of the orthonormal Fourier transform of (N, C, H, W), real and imaginary parts apart: it weighs detail that
    a plain L1 blurs, as SAFMN and ShuffleMixer train."""
    return torch.view_as_real(torch.fft.rfft2(error, norm="ortho")).abs().mean()


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, weight: float) -> None:
    """Move the average towards ``net``'s plain kernels. They are averaged and not the factors, because the product of
    averages is not the average of products."""
    plain = collapsed(net)
    names, mine = zip(*((n, p) for n, p in average.named_parameters() if n in plain), strict=True)
    torch._foreach_lerp_(mine, [plain[name] for name in names], 1 - weight)


def _set_up_torch(options: TrainOptions) -> None:
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # vanishing gradients are a hundred times slower otherwise
    keep_freed_memory()


def _recipe(options: TrainOptions, prepared: Prepared, init: LoadedModel | None) -> dict[str, object]:
    """Everything that the result depends on but the number of iterations, which may grow."""
    names = ("scale", "groups", "blocks", "features", "reduction", "unshuffle", "tail", "factors", "degradation")
    numbers = ("batch", "patch", "learning_rate", "warmup", "decay", "fourier", "seed", "precision")
    recipe: dict[str, object] = {name: getattr(options, name) for name in (*names, *numbers)}
    if options.degradation == "video":
        recipe |= {"clean": options.clean, "sequences": options.sequences}
    return recipe | {"data": prepared.digest, "init": init.sha256 if init else None}


def _save_weights(average: RCAN, path: Path, options: TrainOptions, step: int, scores: Mapping[str, float]) -> None:
    story = {
        "program": f"rcan-video-train {__version__}",
        "iterations": step,
        "of": options.iterations,
        **{name: getattr(options, name) for name in ("batch", "patch", "learning_rate", "decay", "fourier", "seed")},
        "degradation": options.degradation,
        "validation": {name: round(value, 4) for name, value in scores.items()},
    }
    checkpoint.save(official(average), path, {"training": json.dumps(story)})


def _check_output(output: Path, folder: Path, *, overwrite: bool) -> None:
    """Before hours of work: can the result be written at the end?"""
    if output.suffix != ".safetensors":
        raise OutputError(f"{output}: must be called *.safetensors, which is what is written")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise OutputError(f"{output}: cannot be written, its folder does not exist or it is one; choose another name")
    if output.exists() and not overwrite and not (folder / "state.pt").exists():
        raise OutputError(f"{output}: exists; give --overwrite (-y) to replace it when the training is done")
