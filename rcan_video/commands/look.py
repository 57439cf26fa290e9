"""Options of ``rcan-video`` that look before anything is computed: ``--preview`` and ``--dry-run``."""

from __future__ import annotations

import io
from fractions import Fraction

import click

from rcan_video.commands.params import Seconds
from rcan_video.commands.saying import print_result
from rcan_video.options import Options
from rcan_video.progress import Progress
from rcan_video.progress.plain import Plain


class PreviewTime(Seconds):
    """A time, or "auto": frames of the program's own choice."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Fraction | str:  # type: ignore[override]
        if value == "auto":
            return "auto"
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(
                f"{value!r} is no time: write --preview=12.5 (or 0:12.5), or put --preview behind the names of files",
                param,
                ctx,
            )


def write_preview(options: Options, time: Fraction | str, progress: Progress) -> None:
    """``rcan-video INPUT OUTPUT.png --preview``."""
    from rcan_video.preview import preview

    stills = preview(options, None if isinstance(time, str) else time, progress.notice)
    times = ", ".join(f"{still.at:.2f} s" for still in stills)
    progress.notice(f"{options.output}: frame{'s' * (len(stills) > 1)} at {times}")


def say_dry_run(options: Options, *, as_json: bool, quiet: bool) -> None:
    """``rcan-video INPUT OUTPUT --dry-run``: on standard output, because that is what was asked for."""
    from rcan_video.dry_run import rehearse

    said = io.StringIO()  # printed at once: lines of progress may be lost, what was asked for may not
    words = Plain(said, verbose=True)
    forecast = rehearse(options, words)
    for line in forecast.lines():
        words.notice(line)
    if as_json:
        print_result(forecast.json())
    elif not quiet:
        print_result(said.getvalue().rstrip("\n"))
