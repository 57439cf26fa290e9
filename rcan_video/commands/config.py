"""Standing choices: files that give options other defaults. Command line > environment > these > built-in defaults."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rcan_video.commands.sections import Option
from rcan_video.errors import UsageError, did_you_mean

NAME = "rcan-video.toml"
_READ = f"{__name__}.read"
_LARGEST = 1 << 20


def standing(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """The callback of ``--config``, an eager option: reads the named file, or those in the usual places, the one in the
    working directory above the user's own."""
    if ctx.resilient_parsing:  # a shell that asks for completions
        return
    if value is not None:
        files = [Path(value)]
    else:
        files = [path for path in (user_file(), Path(NAME)) if path is not None and path.is_file()]
    found: dict[str, Any] = {}
    for file in files:
        found |= _read(file, ctx.command)
    ctx.default_map = found
    ctx.meta[_READ] = files


def files_read(ctx: click.Context) -> list[Path]:
    """The files that were read, the strongest last."""
    files: list[Path] = ctx.meta.get(_READ, [])
    return files


def user_file() -> Path | None:
    """In the user's configuration folder: XDG Base Directory Specification (also on macOS), or %APPDATA%. None for a
    user without a home."""
    try:
        if sys.platform == "win32":
            return Path(os.environ.get("APPDATA") or Path.home() / "AppData/Roaming") / NAME
        base = Path(os.environ.get("XDG_CONFIG_HOME") or "")
        return (base if base.is_absolute() else Path.home() / ".config") / NAME
    except RuntimeError:  # nobody's home
        return None


def _read(path: Path, command: click.Command) -> dict[str, Any]:
    """Values by the names of parameters. Raises UsageError."""
    try:
        with path.open("rb") as file:
            content = tomllib.loads(file.read(_LARGEST).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): name another --config") from error
    except ValueError as error:  # TOML's and UTF-8's
        raise UsageError(f"{path} is no TOML ({error}): correct it, or name another --config") from error
    return _values(path, content, command)


def _values(path: Path, content: Mapping[str, Any], command: click.Command) -> dict[str, Any]:
    options = {
        name.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option)
        for name in option.opts
        if name.startswith("--")
    }
    allowed = {name for name, option in options.items() if isinstance(option, Option) and option.in_config}
    found = {}
    for key, value in content.items():
        if key not in options:
            raise UsageError(f"{path} sets {key!r}, which is no option{did_you_mean(key, allowed)}")
        if key not in allowed:
            raise UsageError(f"{path} sets {key!r}, which belongs on the command line: take it out")
        found[str(options[key].name)] = _value(path, key, value, options[key])
    return found


def _value(path: Path, key: str, value: Any, option: click.Option) -> Any:
    """As the command line would give it."""
    if option.multiple:
        if isinstance(value, dict):
            return [f"{name}={_word(path, key, part)}" for name, part in value.items()]
        return [_word(path, key, part) for part in (value if isinstance(value, list) else [value])]
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{path} sets {key} to {value!r}: write true or false")
        return value
    return _word(path, key, value)


def _word(path: Path, key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{path} sets {key} to {value!r}: write a text or a number")
    return str(value)
