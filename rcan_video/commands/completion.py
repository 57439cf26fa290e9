"""Completion in bash, zsh and fish: the script that a shell loads, and the answers to what it asks."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from rcan_video.commands.saying import print_result

if TYPE_CHECKING:
    from click.shell_completion import ShellComplete

SHELLS = ("bash", "zsh", "fish")


def complete(command: click.Command, name: str) -> None:
    """Answer a shell that asks for completions, and leave; else do nothing. Raises as ``print_result``."""
    instruction = os.environ.get(_variable(name))
    if instruction:
        from click.shell_completion import get_completion_class

        shell, _, asked = instruction.partition("_")
        kind = get_completion_class(shell)
        if kind is None or asked not in ("source", "complete"):
            sys.exit(1)
        completion = kind(command, {}, name, _variable(name))
        if asked == "source":
            _print_script(completion)
        else:
            print_result(completion.complete().encode())
        sys.exit(0)


def print_completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:
    """The callback of ``--completion``: prints the script, and ends the command."""
    if shell is None or ctx.resilient_parsing:
        return
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    name = str(ctx.info_name)
    _print_script(kind(ctx.command, {}, name, _variable(name)))
    ctx.exit()


def _print_script(completion: ShellComplete) -> None:
    print_result(completion.source().encode(), nl=False)  # as bytes: as text, Windows would write CRLF


def _variable(name: str) -> str:
    """The environment variable by which a shell asks, as click names it."""
    return f"_{name}_COMPLETE".replace("-", "_").upper()
