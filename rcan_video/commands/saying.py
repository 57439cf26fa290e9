"""What a command that computes for a while is doing, in words."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import click


@contextlib.contextmanager
def saying(name: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """On a line of its own on a terminal, in lines elsewhere; nothing where ``quiet``."""
    if quiet or sys.stderr is None:
        yield lambda text: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        with Console(stderr=True).status("") as status:
            yield lambda text: status.update(Text(text))
    else:
        yield lambda text: click.echo(f"{name}: {text}", err=True)
