"""Options of ``rcan-video`` that look before anything is computed: ``--preview``."""

from __future__ import annotations

from fractions import Fraction

import click

from rcan_video.commands.params import Seconds
from rcan_video.options import Options
from rcan_video.progress import Progress


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


preview_option = click.option(
    "--preview",
    type=PreviewTime(),
    metavar="[TIME]",
    is_flag=False,
    flag_value="auto",
    help="Write a picture into OUTPUT (.png) instead: this frame, or three, by bicubic, Lanczos and RCAN.",
)


def write_preview(options: Options, time: Fraction | str, progress: Progress) -> None:
    """``rcan-video INPUT OUTPUT.png --preview``."""
    from rcan_video.preview import preview

    stills = preview(options, None if isinstance(time, str) else time, progress.notice)
    times = ", ".join(f"{still.at:.2f} s" for still in stills)
    progress.notice(f"{options.output}: frame{'s' * (len(stills) > 1)} at {times}")
