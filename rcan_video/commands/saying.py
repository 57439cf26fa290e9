"""What a command that computes for a while is doing, in words; and what it was asked for, on standard output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import click

from rcan_video.errors import OutputError, PipeClosed


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


def print_result(text: str) -> None:
    """Print what a command was asked for. Raises PipeClosed where nobody reads it, OutputError where it cannot be
    written."""
    try:
        click.echo(text)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in Python's buffer would fail again at exit
        if isinstance(error, BrokenPipeError):
            raise PipeClosed("the reader of standard output has closed it") from error
        raise OutputError(f"standard output cannot be written: {error.strerror}; send it elsewhere") from error
