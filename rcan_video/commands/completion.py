"""Completion in bash, zsh and fish: the script that a shell loads, and the answers to what it asks."""

from __future__ import annotations

import os
import sys

import click

from rcan_video.commands.saying import print_result

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
        print_result(completion.source() if asked == "source" else completion.complete())
        sys.exit(0)


def print_completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:
    """The callback of ``--completion``: prints the script, and ends the command."""
    if shell is None or ctx.resilient_parsing:
        return
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    name = str(ctx.info_name)
    print_result(kind(ctx.command, {}, name, _variable(name)).source())
    ctx.exit()


def _variable(name: str) -> str:
    """The environment variable by which a shell asks, as click names it."""
    return f"_{name}_COMPLETE".replace("-", "_").upper()
