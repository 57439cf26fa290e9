"""The training itself: everything that decides what comes out, from top to bottom."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn.utils import parametrize

from rcan_video.engine.compiled import compiled, compiling
from rcan_video.engine.memory import is_oom, keep_freed_memory
from rcan_video.errors import Interrupted, NotFinite, OutOfMemory
from rcan_video.network.catalog import LoadedModel
from rcan_video.options import TrainOptions
from rcan_video.train.checks import check_options, check_processes, check_result
from rcan_video.train.init import Init, load_init
from rcan_video.train.journal import Journal, Watch
from rcan_video.train.optimizers import optimizers
from rcan_video.train.prepare import Prepared, prepare
from rcan_video.train.processes import Processes, joined
from rcan_video.train.recipe import recipe
from rcan_video.train.reparam import collapsed, factorise
from rcan_video.train.start import Structure, describe, starting_point, structure, to_range
from rcan_video.train.state import StateFolder, has_state
from rcan_video.train.store import allow_many_files
from rcan_video.train.symmetry import keep_symmetric
from rcan_video.train.teacher import Teacher, load_teacher

_LAST_RATE = 1e-6
_CLIP = 1.0  # of the gradient's norm
_AVERAGE = 0.999


def train(options: TrainOptions, watch: Watch) -> None:
    """Train as ``options`` say, or go on where the same training was cut off; write ``options.output`` at the end.

    Raises RcanVideoError: usage, input, output, weights, device, memory, or a loss that is no longer finite.
    """
    output = Path(options.output)
    folder = Path(options.state) if options.state else output.with_name(f"{output.name}.train")
    check_result(output, folder, overwrite=options.overwrite)
    check_options(options, output, folder)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    keep_freed_memory()
    allow_many_files()
    init = load_init(options.init, options.scale)
    teacher = None if options.teacher is None else load_teacher(options.teacher, options.scale)
    shape = structure(options, init.net if init else None)
    torch.set_flush_denormal(True)  # arithmetic on vanishing gradients is a hundred times slower otherwise
    try:
        with joined(options.device) as processes:
            check_processes(options, processes)
            if not processes.first:  # the first decodes into the cache, the others find it there
                processes.wait()
            prepared = _prepared(options, watch)
            if not processes.first:
                _train(options, shape, init, teacher, prepared, processes, None)
                return
            processes.wait()
            with StateFolder(folder, recipe(options, shape, prepared.digest, init, teacher)) as state:
                journal = Journal(options, watch, state, prepared.validation, prepared.description)
                _train(options, shape, init, teacher, prepared, processes, journal)
    except KeyboardInterrupt as error:
        raise Interrupted(kept=has_state(folder)) from error
    except (RuntimeError, MemoryError) as error:
        if not is_oom(error):
            raise
        raise OutOfMemory(
            f"memory ran out with --batch {options.batch} and --patch {options.patch}: give less of either, "
            f"or a smaller network{' or --teacher' if teacher else ''}"
        ) from error
    finally:
        torch.set_flush_denormal(False)


def _prepared(options: TrainOptions, watch: Watch) -> Prepared:
    try:
        return prepare(options, watch.preparing)
    except (RuntimeError, MemoryError) as error:
        if not is_oom(error):
            raise
        raise OutOfMemory("memory ran out while pictures were prepared: cut the largest ones up") from error


def _train(
    options: TrainOptions,
    shape: Structure,
    init: Init | None,
    teacher: LoadedModel | None,
    prepared: Prepared,
    processes: Processes,
    journal: Journal | None,  # the first process has it
) -> None:
    device, places, config = processes.device, processes.places(options.batch), shape.config
    half = options.precision == "half" or (options.precision == "auto" and device.type == "cuda")
    groups = torch.float16 if half else torch.bfloat16 if options.precision == "bf16" else torch.float32

    # What trains, kernels with factors or ties; and what is kept, the average over the iterations of its plain kernels.
    net = starting_point(shape, init.net if init else None, prepared.patches, options)
    average = copy.deepcopy(net).eval().requires_grad_(False).to(device)
    if options.factors:
        factorise(net)
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    movers = optimizers(net, options.optimizer)
    if options.equivariant:  # the means are of what factors and matrices give, so these come first
        keep_symmetric(net, options.equivariant)
    if groups != torch.float32:  # these alone, as the engine: pictures pass through the ends exactly
        net.body.forward = torch.autocast(device.type, groups)(net.body.forward)
    if options.compile:
        net.body.forward = compiled(net.body.forward)
    model = processes.parallel(net.train())
    scaler = torch.amp.GradScaler(device.type, enabled=half)
    guide = Teacher(teacher, device, torch.float32 if half else groups) if teacher else None

    # All that changes from step to step. Batches are drawn from the seed and the step, so there is no state of theirs.
    # ``losses`` is the sum over the ``summed`` steps since the last row of the log.
    step, losses, summed = 0, torch.zeros((), device=device), 0
    saved = processes.from_first(journal.saved() if journal else None)
    if saved:
        net.load_state_dict(saved["net"])
        average.load_state_dict(saved["average"])
        for mover, theirs in zip(movers, saved["optimizers"], strict=True):
            mover.load_state_dict(theirs)
        scaler.load_state_dict(saved["scaler"])
        step, losses = saved["step"], saved["losses"].to(device)
        summed = saved.get("summed", step % options.log_every)  # states of before have none
    if journal:
        journal.begin(average, describe(average), step)
    first = step + 1

    def state() -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in (("net", net), ("average", average), ("scaler", scaler))}
        counts = {"step": step, "losses": losses, "summed": summed}
        return {**parts, "optimizers": [mover.state_dict() for mover in movers], **counts}

    while step < options.iterations:
        rate = learning_rate(step, options)
        for group in [group for mover in movers for group in mover.param_groups]:
            group["lr"] = rate
        small, large = (to_range(x.to(device), config) for x in prepared.patches.batch(step, places))
        with parametrize.cached():  # each kernel is multiplied out once a step
            found = model(small)
            aim = guide.aim(small, large, config.rgb_range, step) if guide else large
            error = (found - aim) / config.rgb_range
            distance = error.abs().mean()
            loss = error.square().mean() if options.squared else distance
            if options.fourier:
                loss = loss + options.fourier * spectral(error)
            if options.temporal:  # against the pictures themselves: a teacher may flicker, too
                loss = loss + options.temporal * unsteadiness((found - large) / config.rgb_range)
            net.zero_grad()
            with compiling() if options.compile else contextlib.nullcontext():
                scaler.scale(loss).backward()
            follow(average, net, step)
        move(net, movers, scaler)
        losses += processes.mean(distance.detach())  # of all, as the state of one goes on for all
        step, summed = step + 1, summed + 1
        if journal and step == first:
            journal.warmed_up(step)

        last = step == options.iterations
        if step % options.log_every == 0 or last:
            mean = float(losses) / summed
            losses, summed = torch.zeros_like(losses), 0
            if not math.isfinite(mean):
                other = " or another --teacher" if guide else ""
                raise NotFinite(
                    f"the loss is no longer finite at iteration {step}: begin again with a smaller --lr{other}, "
                    "and another --state"
                )
            if journal:
                journal.log(average, step, rate, mean)
        if journal and (last or journal.save_is_due()) and is_finite(net):
            journal.save(state())
    if journal:
        if step == 0:  # no iteration was asked for; those that are asked for later go on from here
            journal.save(state())
        journal.finish(average, step)


def move(net: nn.Module, movers: Sequence[optim.Optimizer], scaler: torch.amp.GradScaler) -> None:
    """One step along the gradients, none where half precision has overflowed: the scaler knows of each optimizer apart
    which one that was, but the norm is of all, and one bad gradient would spoil those of the others."""
    for mover in movers:
        scaler.unscale_(mover)
    norm = nn.utils.clip_grad_norm_(net.parameters(), _CLIP)
    if not scaler.is_enabled() or norm.isfinite():
        for mover in movers:
            scaler.step(mover)
    scaler.update()


def learning_rate(step: int, options: TrainOptions) -> float:
    """Linear warm-up, constant, then a cosine to 1e-6, or what is asked for where that is less, over the last ``decay``
    of all iterations."""
    warm = min(1.0, (step + 1) / max(options.warmup, 1))
    left = (options.iterations - step) / max(options.decay * options.iterations, 1.0)
    cosine = 0.5 * (1 - math.cos(math.pi * min(left, 1.0)))
    return max(options.learning_rate * warm * cosine, min(_LAST_RATE, options.learning_rate))


def spectral(error: Tensor) -> Tensor:
    """L1 of the orthonormal Fourier transform of (N, C, H, W), real and imaginary parts apart: it weighs detail that
    a plain L1 blurs, as SAFMN and ShuffleMixer train."""
    return torch.view_as_real(torch.fft.rfft2(error, norm="ortho")).abs().mean()


def unsteadiness(error: Tensor) -> Tensor:
    """L1 of the difference between the errors of two frames of a sequence, neighbours in (2 N, C, H, W): what a viewer
    sees as flicker. Akin to the temporal error of ``rcan-video-eval``, which is of consecutive frames and of Y."""
    return (error[0::2] - error[1::2]).abs().mean()


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, step: int) -> None:
    """Move the average towards ``net``'s plain kernels, faster in the first steps. They are averaged and not the
    factors, because the product of averages is not the average of products."""
    weight = min(_AVERAGE, (step + 1) / (step + 10))
    plain, mine = collapsed(net), dict(average.named_parameters())
    torch._foreach_lerp_([mine[name] for name in plain], list(plain.values()), 1 - weight)


def is_finite(net: nn.Module) -> bool:
    """Whether there is anything to go on from: a loss that explodes spoils the parameters before it is noticed."""
    return all(bool(parameter.isfinite().all()) for parameter in net.parameters())
