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
        shell, _, asked = instruction.partition("_")
        completion = _completion(shell, command, name)
        if completion is None or asked not in ("source", "complete"):
            sys.exit(1)
        if asked == "source":
            _print_script(completion)
        else:
            print_result(completion.complete().encode())
        sys.exit(0)


def print_completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:
    """The callback of ``--completion``: prints the script, and ends the command."""
    if shell is None or ctx.resilient_parsing:
        return
    completion = _completion(shell, ctx.command, str(ctx.info_name))
    assert completion is not None
    _print_script(completion)
    ctx.exit()


def _completion(shell: str, command: click.Command, name: str) -> ShellComplete | None:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    return None if kind is None else kind(command, {}, name, _variable(name))


def _print_script(completion: ShellComplete) -> None:
    print_result(completion.source().encode(), nl=False)  # as bytes: as text, Windows would write CRLF


def _variable(name: str) -> str:
    """The environment variable by which a shell asks, as click names it."""
    return f"_{name}_COMPLETE".replace("-", "_").upper()
