"""What a command that computes for a while is doing, in words; and what it was asked for, on standard output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

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


def print_result(text: str | bytes, *, nl: bool = True) -> None:
    """Print what a command was asked for, and a line feed where ``nl``; characters that standard output cannot hold,
    as in names of files, are escaped. Raises PipeClosed where nobody reads it, OutputError where it cannot be
    written."""
    if isinstance(text, str) and sys.stdout is not None:
        encoding = sys.stdout.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        click.echo(text, nl=nl)
    except OSError:
        from rcan_video.media.files import output_errors  # with FFmpeg, which lists and completion do without

        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)  # what is left in Python's buffer would fail again at exit
        with output_errors("standard output"):
            raise
