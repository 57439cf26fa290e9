"""``rcan-video-compare SOURCE OUTPUT``: what became of a video, on one page."""

from __future__ import annotations

from fractions import Fraction
from typing import get_args

import click

from rcan_video.commands.asked import help_and_version
from rcan_video.commands.params import Seconds
from rcan_video.commands.saying import saying
from rcan_video.commands.shell import run_command
from rcan_video.options import CompareOptions, Deinterlace

_NAME = "rcan-video-compare"
_DEFAULT = CompareOptions("", "", "report.html")

_EPILOG = """
Exit codes: 0 all well, 1 a bug, 2 wrong usage, 3 input, 4 output, 130 interrupted.
"""


@click.command(epilog=_EPILOG, context_settings={"max_content_width": 80})
@click.argument("source", metavar="SOURCE")
@click.argument("output", metavar="OUTPUT")
@click.option(
    "-o", "--report", metavar="FILE.html", default=_DEFAULT.report, show_default=True, help="Where the page is written."
)
@click.option("--reference", metavar="FILE", help="What OUTPUT ought to look like, for PSNR and SSIM; of its size.")
@click.option("--start", type=Seconds(), metavar="TIME", help="As it was given to rcan-video, if it was.")
@click.option("--duration", type=Seconds(), metavar="TIME", help="Compare only this much.")
@click.option(
    "--deinterlace",
    type=click.Choice(get_args(Deinterlace)),
    default=_DEFAULT.deinterlace,
    show_default=True,
    help="As it was given to rcan-video.",
)
@click.option(
    "--samples",
    type=click.IntRange(1, 5000),
    default=_DEFAULT.samples,
    show_default=True,
    help="Frames to measure at most, evenly spread.",
)
@click.option(
    "--stills", type=click.IntRange(1, 24), default=_DEFAULT.stills, show_default=True, help="Frames to show at most."
)
@click.option("-y", "--overwrite", is_flag=True, help="Replace an existing report.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors alone.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@help_and_version(_NAME)
def command(
    source: str,
    output: str,
    report: str,
    reference: str | None,
    start: Fraction | None,
    duration: Fraction | None,
    deinterlace: Deinterlace,
    samples: int,
    stills: int,
    overwrite: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Show what became of the video SOURCE in OUTPUT: one HTML page that needs no
    network.

    It has frames before and after with a line to drag between them, a zoom, curves
    of sharpness (and of PSNR and SSIM with --reference), and what probing tells of
    both files. Frames are matched by their times.
    """
    from rcan_video.compare.run import compare

    options = CompareOptions(
        source=source,
        output=output,
        report=report,
        reference=reference,
        start=start,
        duration=duration,
        deinterlace=deinterlace,
        samples=samples,
        stills=stills,
        overwrite=overwrite,
    )
    with saying(_NAME, quiet=quiet) as say:
        alike = compare(options, say)
    if quiet:
        return
    if not alike:
        warning = f"{output} does not look as if it had been made of {source}: give the --start it was made with"
        click.echo(f"{_NAME}: {warning}", err=True)
    click.echo(f"{_NAME}: {report} is written", err=True)


def main() -> None:
    run_command(command, _NAME)
