"""Make the manual pages from the commands' own help: ``python docs/make_man.py [FOLDER]``; by default docs/man."""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

import click

COMMANDS = {
    "rcan-video": "upscale",
    "rcan-video-compare": "compare",
    "rcan-video-eval": "evaluate",
    "rcan-video-bench": "bench",
    "rcan-video-train": "train",
}
FILES = r"""
.SH FILES
.TP
.B rcan-video.toml
In the working directory, and in the user's configuration folder ($XDG_CONFIG_HOME, else ~/.config): defaults for the
options, by their names. The one in the working directory is stronger.
.TP
.B OUTPUT.rcan
What an interrupted run has done. The same command goes on from there.
.SH ENVIRONMENT
.TP
.B RCAN_VIDEO_*
Defaults for the options: RCAN_VIDEO_DEVICE for \-\-device, RCAN_VIDEO_NO_AUDIO=1 for \-\-no\-audio. Stronger than
files, weaker than the command line.
.TP
.B NO_COLOR, COLUMNS
As everywhere.
"""


def page(name: str, command: click.Command) -> str:
    """The page of one command in the man macros."""
    context = command.make_context(name, [], resilient_parsing=True)
    first, *more = (paragraph.replace("\n", " ") for paragraph in inspect.cleandoc(command.help or "").split("\n\n"))
    usages = getattr(command, "usages", ()) or (" ".join(command.collect_usage_pieces(context)),)
    # Without a date, a page changes only where the help does.
    lines = [f'.TH {_text(name.upper())} 1 "" "rcan-video" "User Commands"', ".SH NAME"]
    lines += [rf"{_text(name)} \- {_text(_short(first))}", ".SH SYNOPSIS"]
    for usage in usages:
        lines += [f".B {_text(name)}", _text(usage), ".br"]
    lines[-1:] = [".SH DESCRIPTION", _text(first)]
    for paragraph in more:
        lines += [".PP", _text(paragraph)]
    for heading, options in _sections(command, context).items():
        lines += [f".SH {_text(heading.upper())}"]
        for names, text in options:
            lines += [".TP", f".B {_text(names)}", _text(text)]
    if name == "rcan-video":
        lines.append(FILES.strip())
    if command.epilog:
        lines += [".SH EXIT STATUS", _text(" ".join(command.epilog.split()))]
    others = ", ".join(f".BR {_text(other)} (1)" for other in COMMANDS if other != name)
    lines += [".SH SEE ALSO", others.replace(", ", ",\n")]
    return "\n".join(lines) + "\n"


def _sections(command: click.Command, context: click.Context) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None:
            found.setdefault(getattr(parameter, "section", "Options"), []).append(record)
    return found


def _short(text: str) -> str:
    """The first clause, without its full stop."""
    return re.split(r"[.:;] |\.$", text)[0]


def _text(text: str) -> str:
    """Escaped for roff."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in COMMANDS.items():
        command = import_module(f"rcan_video.commands.{module}").command
        (folder / f"{name}.1").write_text(page(name, command), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "man")
