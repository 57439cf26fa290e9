"""``rcan-video INPUT OUTPUT``: the main job, and ``rcan-video INPUT... --out-dir DIR``: many of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from rcan_video.commands import flags
from rcan_video.commands.asked import help_and_version
from rcan_video.commands.config import NAME, files_read
from rcan_video.commands.display import open_display
from rcan_video.commands.look import say_dry_run, write_preview
from rcan_video.commands.params import PathName
from rcan_video.commands.sections import Command
from rcan_video.commands.shell import Shell, run_command
from rcan_video.errors import InputError, damage_sentence
from rcan_video.options import BatchOptions, Options
from rcan_video.progress import Display

_EPILOG = """
Exit codes: 0 all well, 1 a bug, 2 wrong usage, 3 input (where the output is there all the same: its
damaged parts were stepped over), 4 output, 5 weights, 6 device or memory, 7 the output failed its check,
130 interrupted. Several inputs end with the highest of theirs.
"""


@click.command(
    cls=Command,
    context_settings={"auto_envvar_prefix": "RCAN_VIDEO"},
    epilog=_EPILOG,
    usages=("[OPTIONS] INPUT OUTPUT", "[OPTIONS] INPUT... --out-dir DIR"),
)
@click.argument("paths", type=PathName(), metavar="INPUT", nargs=-1)
@flags.with_options(*flags.ALL)
@help_and_version("rcan-video")
@click.pass_context
def command(ctx: click.Context, /, paths: tuple[str, ...], **given: Any) -> None:
    """Upscale the video INPUT into OUTPUT with RCAN, frame by frame.

    Everything but the picture's size stays as it was. Either may be '-': standard
    input, or standard output in the container that --format names. A run that was
    interrupted, however it was, goes on where it stopped when it is run again.
    """
    given["quiet"] = _is_quiet(ctx)
    _settle_size(ctx, given)
    looks = _looks(given)
    shell = ctx.ensure_object(Shell)
    if given["out_dir"] is None:
        input, output = _one_job(paths, given)
        options = flags.options_from(given, input, output)
        if given["dry_run"]:
            say_dry_run(options, as_json=given["as_json"], quiet=given["quiet"])
            return
        shell.display = _open_display(ctx, given, (input, output))
        if looks:
            write_preview(options, given["preview"], shell.display)
        else:
            _upscale_one(options, shell.display)
    else:
        from rcan_video.batch import plan, run_batch

        names = ("out_dir", "suffix", "recursive", "inputs_from")
        tasks = plan(BatchOptions(paths, **{name: given[name] for name in names}))
        shell.display = _open_display(ctx, given, [name for task in tasks for name in task])
        run_batch(tasks, flags.options_from(given, "", ""), shell.display, debug=given["debug"])


def _one_job(paths: tuple[str, ...], given: dict[str, Any]) -> tuple[str, str]:
    """Input and output where these are all. Raises click.UsageError."""
    for name in ("inputs_from", "recursive"):
        if given[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} is for several inputs: give --out-dir, too")
    if len(paths) < 2:
        raise click.UsageError(f"Missing argument '{('INPUT', 'OUTPUT')[len(paths)]}'")
    if len(paths) > 2:
        raise click.UsageError(f"unexpected extra argument {paths[2]!r}: several inputs need --out-dir")
    return paths[0], paths[1]


def _is_quiet(ctx: click.Context) -> bool:
    """--quiet is --progress none; where both are given, the stronger source decides. Raises click.UsageError where
    there is none."""
    quiet, progress = (ctx.get_parameter_source(name) or ParameterSource.DEFAULT for name in ("quiet", "progress"))
    if not ctx.params["quiet"] or ctx.params["progress"] == "none":
        return bool(ctx.params["quiet"])
    if quiet == progress:
        raise click.UsageError("--quiet is --progress none: give one of the two")
    return quiet < progress


def _settle_size(ctx: click.Context, given: dict[str, Any]) -> None:
    """Of the options that say how large, those that come from the strongest source stay: a --scale that is typed
    replaces the height of a file."""
    named = [name for name in ("scale", "height", "size", "fit") if given[name] is not None]
    sources = {name: ctx.get_parameter_source(name) or ParameterSource.DEFAULT for name in named}
    for name in named:
        if sources[name] > min(sources.values()):
            given[name] = None


def _looks(given: dict[str, Any]) -> bool:
    """Whether something is looked at instead of computed. Raises click.UsageError."""
    preview, dry_run = given["preview"] is not None, bool(given["dry_run"])
    if given["as_json"] and not dry_run:
        raise click.UsageError("--json is for --dry-run: give that too, or leave it out")
    if preview and dry_run:
        raise click.UsageError("--dry-run and --preview are two questions: ask one at a time")
    if (preview or dry_run) and given["out_dir"] is not None:
        raise click.UsageError(f"--{'preview' if preview else 'dry-run'} is for one input: leave --out-dir out")
    return preview or dry_run


def _upscale_one(options: Options, display: Display) -> None:
    from rcan_video.job import upscale

    report = upscale(options, display)
    if report.damaged:
        raise InputError(damage_sentence(options.input, report.output))


def _open_display(ctx: click.Context, given: dict[str, Any], media: tuple[str, ...] | list[str]) -> Display:
    display = open_display(
        "none" if given["quiet"] else given["progress"],
        descriptor=given["progress_fd"],
        log=given["log"],
        media=media,
        verbose=given["verbose"],
    )
    for file in files_read(ctx):
        # A file of the folder that somebody happens to be in is worth a word; one's own is not, each time.
        (display.notice if file == Path(NAME) else display.detail)(f"defaults are taken from {file}")
    return display


def main() -> None:
    run_command(command, "rcan-video")
