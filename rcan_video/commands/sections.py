"""Help in sections: a click command whose options say under which heading they stand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

WIDTH = 80

F = TypeVar("F", bound=Callable[..., Any])


class Option(click.Option):
    """An option under the heading ``section``. A ``standing`` choice may be made by a configuration file (unless
    ``in_config`` is False) and by the environment; what concerns one run alone may not."""

    def __init__(
        self, *args: Any, section: str = "Other", standing: bool = True, in_config: bool = True, **settings: Any
    ) -> None:
        settings["allow_from_autoenv"] = standing
        super().__init__(*args, **settings)
        self.section = section
        self.in_config = standing and in_config


def options_of(section: str) -> Callable[..., Callable[[F], F]]:
    """``click.option`` for the options of one section."""
    return partial(click.option, cls=Option, section=section)


class Command(click.Command):
    """A command whose help lists its options by section, in the order in which sections first appear; ``usages`` are
    the ways to call it."""

    def __init__(self, *args: Any, usages: tuple[str, ...] = (), **settings: Any) -> None:
        settings.setdefault("context_settings", {})
        settings["context_settings"] |= {"max_content_width": WIDTH}
        super().__init__(*args, **settings)
        self.usages = usages

    def sections(self, ctx: click.Context) -> dict[str, list[click.Option]]:
        """Visible options by heading."""
        found: dict[str, list[click.Option]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and not parameter.hidden:
                found.setdefault(getattr(parameter, "section", "Other"), []).append(parameter)
        return found

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not self.usages:
            super().format_usage(ctx, formatter)
        for number, usage in enumerate(self.usages):
            formatter.write_usage(ctx.command_path, usage, "Usage: " if number == 0 else "       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, options in self.sections(ctx).items():
            records = [record for option in options if (record := option.get_help_record(ctx)) is not None]
            with formatter.section(heading):
                formatter.write_dl(records, col_max=26)
