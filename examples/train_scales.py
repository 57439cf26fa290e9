"""One body for several scales: a training loop of one's own, from the parts of rcan-video-train.

    python examples/train_scales.py PICTURES... OUT --init weights/base-x3.safetensors --teacher base --valid HELD_OUT

The scales take turns, each with a tail of its own (after MDSR, arXiv 1707.02921); the body, and the head, see them all.
Writes OUT-x2.safetensors and so on, each a plain RCAN as rcan-video-train makes it. The same command goes on where it
was cut off, from the folder OUT.train, where it keeps its state at each validation.
"""

from __future__ import annotations

import argparse
import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import optim
from torch.nn.utils import parametrize

from rcan_video.engine.compiled import check_compiler, compiled, compiling
from rcan_video.errors import NotFinite, RcanVideoError, UsageError
from rcan_video.network import checkpoint
from rcan_video.network.rcan import RCAN
from rcan_video.options import TrainOptions
from rcan_video.train.init import Init, load_init
from rcan_video.train.loop import follow, is_finite, learning_rate, move, spectral
from rcan_video.train.optimizers import optimizers
from rcan_video.train.prepare import prepare
from rcan_video.train.recipe import recipe
from rcan_video.train.start import starting_point, structure, to_range
from rcan_video.train.state import StateFolder
from rcan_video.train.store import allow_many_files
from rcan_video.train.tails import official
from rcan_video.train.teacher import Teacher, load_teacher
from rcan_video.train.validate import Validation

CPU = torch.device("cpu")


@dataclass
class Scale:
    """What trains for one scale; ``net``'s head and body are those of all, as ``average``'s are."""

    net: RCAN
    average: RCAN
    batches: Any
    validation: Validation
    teacher: Teacher | None
    recipe: dict[str, Any]


def scales(options: dict[int, TrainOptions]) -> dict[int, Scale]:
    found: dict[int, Scale] = {}
    init: Init | None = None
    for factor, wanted in options.items():
        init = init or load_init(wanted.init, factor)  # one for all: a bundled name has another body for each scale
        assert init is not None
        prepared = prepare(wanted, lambda _: None)
        shape = structure(wanted, init.net)
        net = starting_point(shape, init.net, prepared.patches, wanted)
        average = copy.deepcopy(net).eval().requires_grad_(False)
        if found:
            first = next(iter(found.values()))
            net.head, net.body = first.net.head, first.net.body
            average.head, average.body = first.average.head, first.average.body
        model = load_teacher(wanted.teacher.format(scale=factor), factor) if wanted.teacher else None
        groups = torch.bfloat16 if wanted.precision == "bf16" else torch.float32
        teacher = Teacher(model, CPU, groups) if model else None
        net.to(memory_format=torch.channels_last).train()
        told = recipe(wanted, shape, prepared.digest, init, model)
        known = {f"x{factor} {name}": value for name, value in told.items()}
        found[factor] = Scale(net, average, prepared.patches, prepared.validation, teacher, known)
    return found


def train(options: dict[int, TrainOptions], out: str) -> None:
    torch.set_flush_denormal(True)
    allow_many_files()
    try:
        trained = scales(options)
        known = {"scales": list(trained)} | {name: value for s in trained.values() for name, value in s.recipe.items()}
        with StateFolder(Path(f"{out}.train"), known) as state:
            _train(trained, next(iter(options.values())), state)
        for factor, scale in trained.items():
            checkpoint.save(official(scale.average), f"{out}-x{factor}.safetensors")
    finally:
        torch.set_flush_denormal(False)


def _train(trained: dict[int, Scale], shared: TrainOptions, state: StateFolder) -> None:
    first, *others = trained.values()
    movers = optimizers(first.net, "muon")
    if others:
        tails = [parameter for scale in others for parameter in scale.net.tail.parameters()]
        movers.append(optim.Adam(tails, betas=(0.9, 0.99), fused=True))
    body = first.net.body
    if shared.precision == "bf16":
        body.forward = torch.autocast("cpu", torch.bfloat16)(body.forward)
    if shared.compile:
        body.forward = compiled(body.forward)

    step, saved = 0, state.load()
    if saved:
        step = saved["step"]
        if step > shared.iterations:
            raise UsageError(f"{state.folder}: holds a training of {step} iterations: give no less for --iterations")
        for factor, scale in trained.items():
            scale.net.load_state_dict(saved["nets"][factor])
            scale.average.load_state_dict(saved["averages"][factor])
        for mover, theirs in zip(movers, saved["movers"], strict=True):
            mover.load_state_dict(theirs)
    else:
        say(trained, step)

    losses, summed, unscaled = 0.0, 0, torch.amp.GradScaler("cpu", enabled=False)
    while step < shared.iterations:
        turn, place = divmod(step, len(trained))
        scale = list(trained.values())[place]
        for group in [group for mover in movers for group in mover.param_groups]:
            group["lr"] = learning_rate(step, shared)
        config = scale.net.config
        small, large = (to_range(x, config) for x in scale.batches.batch(step, range(shared.batch)))
        with parametrize.cached():
            aim = scale.teacher.aim(small, large, config.rgb_range, turn) if scale.teacher else large
            error = (scale.net(small) - aim) / config.rgb_range
            distance = error.abs().mean()
            loss = distance + shared.fourier * spectral(error)
            for mover in movers:
                mover.zero_grad()  # to None: the tails of other scales stay where they are
            with compiling():
                loss.backward()
            follow(scale.average, scale.net, step)  # a tail in its turns alone: its average is of more iterations
        move(scale.net, movers, unscaled)
        losses += float(distance.detach())
        step, summed = step + 1, summed + 1
        if step % shared.validate_every == 0 or step == shared.iterations:
            mean, losses, summed = losses / summed, 0.0, 0
            finite = math.isfinite(mean) and all(is_finite(scale.net) for scale in trained.values())
            if not finite:  # before the state that is still good is replaced
                raise NotFinite(f"the loss is no longer finite at iteration {step}: begin again with a smaller --lr")
            say(trained, step, mean)
            state.save(
                {
                    "step": step,
                    "nets": {factor: scale.net.state_dict() for factor, scale in trained.items()},
                    "averages": {factor: scale.average.state_dict() for factor, scale in trained.items()},
                    "movers": [mover.state_dict() for mover in movers],
                }
            )


def say(trained: dict[int, Scale], step: int, loss: float | None = None) -> None:
    scores = [(factor, scale.validation.scores(scale.average)) for factor, scale in trained.items()]
    told = [f"x{factor} {score:.3f} dB" for factor, found in scores for score in found.values()]
    print(f"iteration {step}", *([] if loss is None else [f"loss {loss:.5f}"]), *told, sep=", ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="PICTURES")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--scales", default="2,3,4", metavar="LIST")
    parser.add_argument("--init", required=True, metavar="NAME|PATH", help="whose body all begin with")
    parser.add_argument("--teacher", metavar="NAME|PATH", help="a bundled name, or a path with {scale} in it")
    parser.add_argument("--iterations", type=int, default=12_000, metavar="N", help="of all scales together")
    parser.add_argument("--lr", type=float, default=1e-3, metavar="RATE")
    parser.add_argument("--batch", type=int, default=4, metavar="N")
    parser.add_argument("--patch", type=int, default=96, metavar="PIXELS")
    parser.add_argument("--filtered", type=float, default=0.8, metavar="SHARE")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--valid", metavar="FOLDER")
    parser.add_argument("--validate-every", type=int, default=500, metavar="N")
    parser.add_argument("--bf16", action="store_true", help="for CPUs that multiply bfloat16")
    parser.add_argument("--compile", action="store_true", help="the groups through torch.compile")
    parser.add_argument("--cache", metavar="FOLDER")
    args = parser.parse_args()
    options = TrainOptions(
        data=tuple(args.data),
        output=args.out,
        init=(args.init,),
        teacher=args.teacher,
        iterations=args.iterations,
        learning_rate=args.lr,
        warmup=100,
        decay=0.9,
        batch=args.batch,
        patch=args.patch,
        filtered=args.filtered,
        optimizer="muon",
        factors=False,
        precision="bf16" if args.bf16 else "single",
        compile=args.compile,
        valid=args.valid,
        validate_every=args.validate_every,
        cache=args.cache,
    )
    try:
        factors = [int(factor) for factor in args.scales.split(",")]
        if unknown := set(factors) - {2, 3, 4, 8}:
            raise ValueError(f"x{min(unknown)}")
    except ValueError as error:
        parser.error(f"--scales {args.scales}: give some of 2, 3, 4 and 8, with commas ({error})")
    if not 0 <= args.filtered <= 1:
        parser.error(f"--filtered {args.filtered}: give a share between 0 and 1")
    present = [path for path in (Path(f"{args.out}-x{factor}.safetensors") for factor in factors) if path.exists()]
    if present:
        parser.error(f"{present[0]}: exists; give another OUT, or remove it")
    try:
        if args.compile:
            check_compiler(CPU)
        train({factor: replace(options, scale=factor, seed=args.seed + factor) for factor in factors}, args.out)
    except RcanVideoError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
