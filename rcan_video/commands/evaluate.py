"""``rcan-video-eval HR...``: how good enlargements are, against their originals."""

from __future__ import annotations

import click

from rcan_video.commands.asked import help_and_version
from rcan_video.commands.params import ModelName
from rcan_video.commands.saying import print_result, saying
from rcan_video.commands.shell import run_command
from rcan_video.options import SCALES, EvalOptions, ModelOptions

_NAME = "rcan-video-eval"

_EPILOG = """
Exit codes: 0 all well, 1 a bug, 2 wrong usage, 3 input, 4 output, 5 weights, 6 device or memory, 130 interrupted.
"""

_DEFAULT = EvalOptions(())


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in value.split(",")) if value else ()
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no list of numbers such as 18,23,28", ctx, param) from error
    if len({f"{crf:g}" for crf in found}) < len(found) or not all(0 <= crf <= 51 for crf in found):
        raise click.BadParameter(f"{value!r} must be different numbers from 0 to 51", ctx, param)
    return found


@click.command(epilog=_EPILOG, context_settings={"max_content_width": 80})
@click.argument("hr", metavar="HR...", nargs=-1, required=True)
@click.option("--lr", metavar="PATH", help="Small pictures or videos by the same names.  [default: HR, reduced]")
@click.option("--sr", "results", metavar="PATH", multiple=True, help="Finished enlargements; may be repeated.")
@click.option(
    "-m",
    "--model",
    "models",
    type=ModelName(),
    metavar="NAME|PATH",
    multiple=True,
    help=f"Weights to measure; may be repeated.  [default: {ModelOptions().model}, or none with --sr]",
)
@click.option(
    "-s",
    "--scale",
    type=click.Choice([str(s) for s in SCALES if s > 1]),
    help="Enlargement.  [default: 2, or what the checkpoint is made for]",
)
@click.option("--self-ensemble", is_flag=True, help="Also the mean of eight positions, as MODEL+ (8 times the work).")
@click.option(
    "--video-crf", "crf", metavar="LIST", callback=_numbers, help="Send what is small through libx264 first: 18,23,28."
)
@click.option("-n", "--frames", type=click.IntRange(1), help="Of each video, the first so many.  [default: all]")
@click.option("-d", "--device", default=_DEFAULT.device, show_default=True, help="auto, cpu, cuda, cuda:1, mps or xpu.")
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads.  [default: all cores]")
@click.option("--csv", metavar="FILE", help="Write every figure, a row for each frame.")
@click.option("--json", metavar="FILE", help="Write the same as JSON.")
@click.option("--sheet", metavar="FILE.png", help="Draw the most detailed part of each (the first 24).")
@click.option("-y", "--overwrite", is_flag=True, help="Replace existing files.")
@click.option("-q", "--quiet", is_flag=True, help="Print the table and errors alone.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@help_and_version(_NAME)
def command(
    hr: tuple[str, ...],
    lr: str | None,
    results: tuple[str, ...],
    models: tuple[str, ...],
    scale: str | None,
    self_ensemble: bool,
    crf: tuple[float, ...],
    frames: int | None,
    device: str,
    threads: int | None,
    csv: str | None,
    json: str | None,
    sheet: str | None,
    overwrite: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Measure enlargements of the originals HR (pictures, videos, or folders of them):
    PSNR and SSIM on Y and RGB, of bicubic, of Lanczos and of RCAN.

    Originals are cut to multiples of the scale and reduced as MATLAB does it. A
    border of SCALE pixels does not count. Videos also get a temporal error.
    """
    from rcan_video.evaluate.measure import evaluate, write_files
    from rcan_video.evaluate.tables import markdown

    options = EvalOptions(
        hr=hr,
        lr=lr,
        results=results,
        models=models,
        scale=int(scale) if scale else None,
        self_ensemble=self_ensemble,
        crf=crf,
        frames=frames,
        device=device,
        threads=threads,
        csv=csv,
        json=json,
        sheet=sheet,
        overwrite=overwrite,
    )
    with saying(_NAME, quiet=quiet) as say:
        found = evaluate(options, say)
    try:
        print_result(markdown(found))
    finally:  # behind the table, which hours of work should not lose to a full disk, and without anybody to read it
        write_files(options, found)


def main() -> None:
    run_command(command, _NAME)
