"""Options that print what was asked for and end the command: ``--help``, ``--version``, lists."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from rcan_video.commands.saying import print_result
from rcan_video.version import __version__

F = TypeVar("F", bound=Callable[..., Any])


def printed(make: Callable[[], str]) -> Callable[[click.Context, click.Parameter, bool], None]:
    """The callback of an eager flag that prints what ``make`` gives, and ends the command."""

    def callback(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            print_result(make())
            ctx.exit()

    return callback


def help_and_version(name: str) -> Callable[[F], F]:
    """The two for the command ``name``: click's own take a full disk for a bug."""
    flag = partial(click.option, is_flag=True, is_eager=True, expose_value=False, allow_from_autoenv=False)
    usage = printed(lambda: click.get_current_context().get_help())
    version = printed(lambda: f"{name} {__version__}")

    def both(function: F) -> F:
        function = flag("-h", "--help", callback=usage, help="Show this message and exit.")(function)
        return flag("--version", callback=version, help="Show the version and exit.")(function)

    return both
