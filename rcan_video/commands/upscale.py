"""``rcan-video INPUT OUTPUT``: the main job."""

from __future__ import annotations

from typing import Any

import click

from rcan_video.commands import flags
from rcan_video.commands.display import open_display
from rcan_video.commands.params import PathName
from rcan_video.commands.sections import Command
from rcan_video.commands.shell import Shell, run_command
from rcan_video.errors import InputError
from rcan_video.version import __version__

_EPILOG = """
Exit codes: 0 all well, 1 a bug, 2 wrong usage, 3 input (where the output is there all the same: its
damaged parts were stepped over), 4 output, 5 weights, 6 device or memory, 7 the output failed its check,
130 interrupted.
"""


@click.command(cls=Command, epilog=_EPILOG, usages=("[OPTIONS] INPUT OUTPUT",))
@click.argument("input", type=PathName(), metavar="INPUT")
@click.argument("output", type=PathName(), metavar="OUTPUT")
@flags.with_options(flags.PICTURE, flags.ENGINE, flags.ENCODER, flags.STREAMS, flags.JOB, flags.SAID)
@click.version_option(__version__, prog_name="rcan-video", message="%(prog)s %(version)s")
@click.pass_context
def command(ctx: click.Context, /, input: str, output: str, **given: Any) -> None:
    """Upscale the video INPUT into OUTPUT with RCAN, frame by frame.

    Everything but the picture's size stays as it was. Either may be '-': standard
    input, or standard output in the container that --format names. A run that was
    interrupted, however it was, goes on where it stopped when it is run again.
    """
    from rcan_video.job import upscale

    shell = ctx.ensure_object(Shell)
    shell.display = open_display(
        "none" if given["quiet"] else given["progress"],
        descriptor=given["progress_fd"],
        log=given["log"],
        media=(input, output),
        verbose=given["verbose"],
    )
    report = upscale(flags.options_from(given, input, output), shell.display)
    if report.damaged:
        source = "standard input" if input == "-" else input
        raise InputError(
            f"{source} is damaged: {report.output or 'the output'} is whole but for what could not be read"
        )


def main() -> None:
    run_command(command, "rcan-video")
